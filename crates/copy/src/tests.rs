//! Round trips, docker's rules of where things go, and enemies at either end.

use std::{
    ffi::OsStr,
    fs,
    io::Write,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::Path,
    time::{Duration, SystemTime},
};

use tar::{Builder, EntryType, Header};

use super::*;

/// What stands outside of what is copied, and must never be reached.
const CANARY: &str = "untouched";

struct Scene {
    directory: tempfile::TempDir,
}

impl Scene {
    /// `root/` to copy in and out of, `outside/canary` beside it.
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("root/dir/sub")).unwrap();
        fs::create_dir(directory.path().join("outside")).unwrap();
        fs::write(directory.path().join("outside/canary"), CANARY).unwrap();
        fs::write(directory.path().join("root/dir/file"), "content").unwrap();
        fs::write(directory.path().join("root/dir/sub/deep"), "deep").unwrap();
        Self { directory }
    }

    fn at(&self, path: &str) -> std::path::PathBuf {
        self.directory.path().join(path)
    }

    fn root(&self) -> Root {
        Root::of_directory(&self.at("root")).unwrap()
    }

    fn assert_outside_untouched(&self) {
        assert_eq!(fs::read_to_string(self.at("outside/canary")).unwrap(), CANARY);
        assert_eq!(fs::read_dir(self.at("outside")).unwrap().count(), 1);
    }
}

fn packed(root: &Root, path: &str, follow: bool) -> Result<(Vec<u8>, Report), CopyError> {
    let source = root.source(Path::new(path), follow)?;
    let name = source.stat.name.clone();
    let mut stream = Vec::new();
    let request =
        PackRequest { source: &source, name: &name, owner: Owner::Kept(IdMap::identity()), skip_nodes: true };
    let report = pack(&request, &mut stream)?;
    Ok((stream, report))
}

fn unpacked(root: &Root, path: &str, stream: &[u8], strip: &str, prefix: &str) -> Result<Report, CopyError> {
    let destination = root.destination(Path::new(path))?;
    let (strip, prefix) = (OsStr::new(strip), OsStr::new(prefix));
    let request =
        UnpackRequest { destination: &destination, strip, prefix, owner: Owner::Ours, nodes: Nodes::Skip };
    unpack(&request, stream)
}

/// A stream of one member, with names that honest writers would not write.
fn member(kind: EntryType, name: &str, link: &str, content: &[u8]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    append(&mut builder, kind, name, link, content);
    builder.into_inner().unwrap()
}

fn append(builder: &mut Builder<Vec<u8>>, kind: EntryType, name: &str, link: &str, content: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o4755);
    header.set_size(content.len() as u64);
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_cksum();
    builder.append(&header, content).unwrap();
}

#[test]
fn a_tree_comes_back_as_it_was() {
    let scene = Scene::new();
    let file = scene.at("root/dir/file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    fs::set_permissions(scene.at("root/dir/sub"), fs::Permissions::from_mode(0o555)).unwrap();
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_007);
    fs::File::options().write(true).open(&file).unwrap().set_modified(then).unwrap();
    symlink("/nowhere", scene.at("root/dir/link")).unwrap();
    let long = "n".repeat(200);
    fs::write(scene.at("root/dir").join(&long), "").unwrap();
    let (stream, report) = packed(&scene.root(), "/dir", false).unwrap();
    assert_eq!((report.files, report.bytes, report.skipped_count), (6, 11, 0));
    fs::create_dir(scene.at("root/copy")).unwrap();
    let back = unpacked(&scene.root(), "/copy", &stream, "dir", "new").unwrap();
    assert_eq!((back.files, back.bytes), (6, 11));
    let copy = scene.at("root/copy/new");
    assert_eq!(fs::read_to_string(copy.join("sub/deep")).unwrap(), "deep");
    assert_eq!(fs::metadata(copy.join("sub")).unwrap().mode() & 0o7777, 0o555);
    let metadata = fs::metadata(copy.join("file")).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.modified().unwrap()), (0o640, then));
    assert_eq!(fs::read_link(copy.join("link")).unwrap(), Path::new("/nowhere"));
    assert!(copy.join(long).exists());
}

#[test]
fn what_is_in_a_directory_goes_without_its_name() {
    let scene = Scene::new();
    let source = scene.root().source(Path::new("/dir/."), false).unwrap();
    assert!(source.stat.is_contents && source.stat.name == ".");
    let (stream, _) = packed(&scene.root(), "dir/.", false).unwrap();
    fs::create_dir(scene.at("root/copy")).unwrap();
    unpacked(&scene.root(), "/copy", &stream, "", "").unwrap();
    assert_eq!(fs::read_to_string(scene.at("root/copy/file")).unwrap(), "content");
}

#[test]
fn links_are_taken_as_links_unless_they_are_to_be_followed() {
    let scene = Scene::new();
    symlink("/dir/file", scene.at("root/link")).unwrap();
    let kind = |follow| {
        let source = scene.root().source(Path::new("/link"), follow).unwrap();
        assert_eq!(source.stat.name, "link");
        packed(&scene.root(), "/link", follow).unwrap().1.bytes
    };
    assert_eq!((kind(false), kind(true)), (0, 7));
}

#[test]
fn a_destination_is_a_directory_a_file_or_nothing_yet() {
    let scene = Scene::new();
    symlink("../dir/file", scene.at("root/dir/to-file")).unwrap();
    symlink("new", scene.at("root/dir/dangling")).unwrap();
    let stat = |path: &str| scene.root().destination(Path::new(path)).map(|destination| destination.stat);
    let directory = stat("/dir").unwrap();
    assert!(directory.exists && directory.is_directory);
    let file = stat("/dir/to-file").unwrap();
    assert!(file.exists && !file.is_directory && file.name == "file", "{file:?}");
    assert!(!stat("/dir/new").unwrap().exists);
    assert_eq!(stat("/dir/dangling").unwrap().name, "new");
    assert!(stat("/new/").unwrap().has_slash);
    assert!(matches!(stat("/none/new"), Err(CopyError::NoSuchPath(path)) if path == "/none"));
    assert!(matches!(stat("/dir/file/"), Err(CopyError::NotADirectory(_))));
    assert!(matches!(stat("/dir/file/x"), Err(CopyError::NotADirectory(path)) if path == "/dir/file"));
}

#[test]
fn what_is_not_there_is_named() {
    let scene = Scene::new();
    let error = packed(&scene.root(), "/nosuch", false).unwrap_err();
    assert_eq!((error.to_string(), error.fault()), ("there is no /nosuch".to_owned(), Fault::NotFound));
    let error = packed(&scene.root(), "/dir/file/", false).unwrap_err();
    assert_eq!(error.to_string(), "/dir/file is not a directory");
    let error = Root::of_directory(Path::new("/")).unwrap().source(Path::new("/proc/cpuinfo"), false);
    assert!(matches!(error, Err(CopyError::KernelFiles(_))));
}

#[test]
fn no_path_leads_out_of_the_root() {
    let scene = Scene::new();
    symlink("../../outside", scene.at("root/dir/up")).unwrap();
    symlink(scene.at("outside"), scene.at("root/dir/absolute")).unwrap();
    let root = scene.root();
    for path in ["/../outside/canary", "/dir/up/canary", "/dir/absolute/canary", "../../outside/canary"] {
        assert!(matches!(packed(&root, path, true), Err(CopyError::NoSuchPath(_))), "{path}");
    }
    let stream = member(EntryType::Regular, "canary", "", b"changed");
    for path in ["/../outside", "/dir/up", "/dir/absolute"] {
        assert!(
            unpacked(&root, path, &stream, "", "").is_err() || !scene.at("root/outside").exists(),
            "{path}"
        );
    }
    scene.assert_outside_untouched();
}

#[test]
fn names_of_a_hostile_stream_are_refused() {
    let scene = Scene::new();
    symlink(scene.at("outside"), scene.at("root/out")).unwrap();
    let root = scene.root();
    for name in ["../outside/canary", "a/../../outside/canary", "out/canary"] {
        let stream = member(EntryType::Regular, name, "", b"changed");
        let error = unpacked(&root, "/", &stream, "", "").unwrap_err();
        assert_eq!(error.fault(), Fault::Mistake, "{name}: {error}");
    }
    // A leading slash means the base.
    unpacked(&root, "/dir", &member(EntryType::Regular, "/etc", "", b"x"), "", "").unwrap();
    assert_eq!(fs::read_to_string(scene.at("root/dir/etc")).unwrap(), "x");
    let error =
        unpacked(&root, "/dir", &member(EntryType::Regular, "other", "", b""), "web", "").unwrap_err();
    assert!(error.to_string().contains("outside of what was asked for"), "{error}");
    scene.assert_outside_untouched();
}

#[test]
fn a_link_of_the_stream_is_no_way_out() {
    let scene = Scene::new();
    let outside = scene.at("outside");
    let mut builder = Builder::new(Vec::new());
    append(&mut builder, EntryType::Symlink, "way", outside.to_str().unwrap(), b"");
    append(&mut builder, EntryType::Regular, "way/canary", "", b"changed");
    let error = unpacked(&scene.root(), "/", &builder.into_inner().unwrap(), "", "").unwrap_err();
    assert!(error.to_string().contains("symbolic link"), "{error}");
    // A file takes the place of a link; it is not written through it.
    symlink(scene.at("outside/canary"), scene.at("root/trap")).unwrap();
    unpacked(&scene.root(), "/", &member(EntryType::Regular, "trap", "", b"mine"), "", "").unwrap();
    assert!(fs::symlink_metadata(scene.at("root/trap")).unwrap().is_file());
    // A hard link's target is looked for without links too.
    let hardlink = member(EntryType::Link, "hard", "way/canary", b"");
    assert!(unpacked(&scene.root(), "/", &hardlink, "", "").is_err());
    scene.assert_outside_untouched();
}

#[test]
fn set_id_bits_devices_and_pipes_do_not_come_along() {
    let scene = Scene::new();
    let mut builder = Builder::new(Vec::new());
    append(&mut builder, EntryType::Regular, "tool", "", b"#!");
    append(&mut builder, EntryType::Link, "same", "tool", b"");
    append(&mut builder, EntryType::Char, "device", "", b"");
    append(&mut builder, EntryType::Fifo, "pipe", "", b"");
    let stream = builder.into_inner().unwrap();
    let report = unpacked(&scene.root(), "/dir", &stream, "", "").unwrap();
    assert_eq!((report.files, report.skipped), (2, vec!["device".to_owned(), "pipe".to_owned()]));
    let tool = fs::metadata(scene.at("root/dir/tool")).unwrap();
    assert_eq!((tool.mode() & 0o7777, tool.nlink()), (0o755, 2));
    let destination = scene.root().destination(Path::new("/")).unwrap();
    let (strip, prefix) = (OsStr::new(""), OsStr::new(""));
    let request =
        UnpackRequest { destination: &destination, strip, prefix, owner: Owner::Ours, nodes: Nodes::Refuse };
    assert_eq!(unpack(&request, &*stream).unwrap_err().fault(), Fault::Mistake);
}

#[test]
fn directories_and_files_do_not_take_each_others_place() {
    let scene = Scene::new();
    let error =
        unpacked(&scene.root(), "/", &member(EntryType::Regular, "dir", "", b""), "", "").unwrap_err();
    assert!(error.to_string().contains("a directory is in its place"), "{error}");
    let error =
        unpacked(&scene.root(), "/dir", &member(EntryType::Directory, "file", "", b""), "", "").unwrap_err();
    assert!(error.to_string().contains("no directory"), "{error}");
    assert_eq!(fs::read_to_string(scene.at("root/dir/file")).unwrap(), "content");
}

#[test]
fn a_pipe_is_not_waited_for_and_a_deep_tree_is_refused() {
    let scene = Scene::new();
    nix::unistd::mkfifo(&scene.at("root/dir/pipe"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    let (_, report) = packed(&scene.root(), "/dir", false).unwrap();
    assert_eq!(report.skipped, ["dir/pipe"]);
    let mut deep = scene.at("root/deep");
    for _ in 0..300 {
        deep.push("d");
    }
    fs::create_dir_all(deep).unwrap();
    assert!(matches!(packed(&scene.root(), "/deep", false), Err(CopyError::TooDeep(_))));
}

#[test]
fn holes_stay_holes() {
    let scene = Scene::new();
    let size = 64 << 20;
    fs::File::create(scene.at("root/dir/sparse")).unwrap().set_len(size).unwrap();
    let (stream, _) = packed(&scene.root(), "/dir/sparse", false).unwrap();
    unpacked(&scene.root(), "/", &stream, "sparse", "copy").unwrap();
    let copy = fs::metadata(scene.at("root/copy")).unwrap();
    assert_eq!(copy.len(), size);
    assert!(copy.blocks() * 512 < size / 16, "{} blocks", copy.blocks());
}

#[test]
fn a_directory_that_becomes_a_link_while_it_is_copied_leads_nowhere() {
    let scene = Scene::new();
    for number in 0..200 {
        let directory = scene.at(&format!("root/many/{number}"));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("canary"), "inside").unwrap();
    }
    let (many, outside) = (scene.at("root/many"), scene.at("outside"));
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Swaps each directory for a link to the outside and back, as fast as it can.
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                for number in 0..200 {
                    let (directory, aside) = (many.join(number.to_string()), many.join("aside"));
                    if fs::rename(&directory, &aside).is_ok() {
                        let _ = symlink(&outside, &directory);
                        let _ = fs::remove_file(&directory);
                        let _ = fs::rename(&aside, &directory);
                    }
                }
            }
        });
        for _ in 0..20 {
            if let Ok((stream, _)) = packed(&scene.root(), "/many", false) {
                assert!(!stream.windows(CANARY.len()).any(|bytes| bytes == CANARY.as_bytes()));
            }
            let mut builder = Builder::new(Vec::new());
            for number in 0..200 {
                append(&mut builder, EntryType::Regular, &format!("{number}/canary"), "", b"written");
            }
            let _ = unpacked(&scene.root(), "/many", &builder.into_inner().unwrap(), "", "");
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    scene.assert_outside_untouched();
}

/// Takes so many bytes and no more.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0 < bytes.len() {
            return Err(std::io::ErrorKind::BrokenPipe.into());
        }
        self.0 -= bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stream_that_breaks_off_is_told_from_everything_else() {
    let scene = Scene::new();
    let root = scene.root();
    let source = root.source(Path::new("/dir"), false).unwrap();
    let name = source.stat.name.clone();
    let request = PackRequest { source: &source, name: &name, owner: Owner::Ours, skip_nodes: false };
    assert_eq!(pack(&request, Full(700)).unwrap_err().fault(), Fault::BrokenOff);
    let (stream, _) = packed(&root, "/dir", false).unwrap();
    let broken = &stream[..stream.len() / 2 - 700];
    assert_eq!(unpacked(&root, "/", broken, "", "").unwrap_err().fault(), Fault::BrokenOff);
    assert_eq!(unpacked(&root, "/", &[7; 1024], "", "").unwrap_err().fault(), Fault::Mistake);
}
