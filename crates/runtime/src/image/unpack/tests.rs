//! Layers, honest and hostile, unpacked into a directory with a canary beside it.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::PathBuf,
};

use hypercore_copy::path::PathError;
use hypercore_fixtures::skip_without_root;
use proptest::prelude::*;
use tar::EntryType;
use tempfile::TempDir;

use super::{tar_fixture::TarFixture, *};

mod odd;

const SMALL: UnpackLimits =
    UnpackLimits { bytes_max: 1024 * 1024, members_max: 100, directory_names_bytes_max: 4096 };

/// A layer's directory, and next to it what no layer may touch.
struct Scene {
    place: TempDir,
}

impl Scene {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("layer")).unwrap();
        fs::create_dir(place.path().join("outside")).unwrap();
        fs::write(place.path().join("outside/canary"), "alive").unwrap();
        Self { place }
    }

    fn layer(&self, path: &str) -> PathBuf {
        self.place.path().join("layer").join(path)
    }

    fn unpack(&self, tar: TarFixture) -> Result<Digest, UnpackError> {
        let result = unpack(&tar.finish()[..], &self.layer(""), &SMALL);
        self.assert_canary();
        result
    }

    fn assert_canary(&self) {
        let outside = self.place.path().join("outside");
        let names: Vec<_> = fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["canary"]);
        let canary = outside.join("canary");
        assert_eq!(fs::read_to_string(&canary).unwrap(), "alive");
        assert_eq!(fs::metadata(&canary).unwrap().nlink(), 1);
        assert_eq!(fs::read_dir(self.place.path()).unwrap().count(), 2);
    }
}

fn is_opaque(path: &Path) -> bool {
    xattr::get(path, "trusted.overlay.opaque").unwrap().as_deref() == Some(b"y")
}

fn is_whiteout(path: &Path) -> bool {
    let metadata = fs::symlink_metadata(path).unwrap();
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

#[test]
fn files_directories_and_links_come_out_as_written() {
    if skip_without_root("files_directories_and_links_come_out_as_written") {
        return;
    }
    let scene = Scene::new();
    let tar = TarFixture::new()
        .member(EntryType::Directory, "./", b"", |header| header.set_mode(0o711))
        .member(EntryType::Directory, "bin/", b"", |header| header.set_mode(0o1777))
        .member(EntryType::Regular, "bin/su", b"code", |header| {
            header.set_mode(0o4755);
            header.set_uid(10);
            header.set_gid(20);
        })
        .symlink("sh", "/bin/su")
        .hardlink("bin/again", "/bin/su")
        .file("implied/parents/file", b"")
        .member(EntryType::Fifo, "pipe", b"", |header| header.set_mode(0o600))
        .device("null", 1, 3);
    scene.unpack(tar).unwrap();

    let file = fs::metadata(scene.layer("bin/su")).unwrap();
    assert_eq!((file.mode() & 0o7777, file.uid(), file.gid(), file.nlink()), (0o4755, 10, 20, 2));
    assert_eq!((file.mtime(), file.len()), (1_700_000_000, 4));
    let directory = fs::metadata(scene.layer("bin")).unwrap();
    assert_eq!((directory.mode() & 0o7777, directory.mtime()), (0o1777, 1_700_000_000));
    assert_eq!(fs::metadata(scene.layer("")).unwrap().mode() & 0o7777, 0o711);
    assert_eq!(fs::read_link(scene.layer("sh")).unwrap(), Path::new("/bin/su"));
    assert_eq!(fs::symlink_metadata(scene.layer("sh")).unwrap().mtime(), 1_700_000_000);
    assert_eq!(fs::metadata(scene.layer("implied/parents")).unwrap().mode() & 0o7777, 0o755);
    assert!(fs::symlink_metadata(scene.layer("pipe")).unwrap().file_type().is_fifo());
    assert_eq!(fs::metadata(scene.layer("null")).unwrap().rdev(), makedev(1, 3));
}

#[test]
fn extended_headers_name_stamp_and_mark_members() {
    if skip_without_root("extended_headers_name_stamp_and_mark_members") {
        return;
    }
    let scene = Scene::new();
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    // A capability with a newline byte in it, as a bit mask can have.
    let capability = [1, 0, 0, 2, b'\n', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let tar = TarFixture::new()
        .pax(&[
            ("path", long.as_bytes()),
            ("uid", b"70000"),
            ("mtime", b"1600000000.5"),
            ("SCHILY.xattr.security.capability", &capability),
            ("SCHILY.xattr.user.note", b"hello"),
            ("SCHILY.xattr.trusted.secret", b"left out"),
        ])
        .file("short", b"content")
        .member(EntryType::GNULongName, "././@LongLink", format!("{}\0", "g".repeat(150)).as_bytes(), |_| {})
        .file("short", b"");
    scene.unpack(tar).unwrap();

    let file = scene.layer(&long);
    let metadata = fs::metadata(&file).unwrap();
    assert_eq!(
        (metadata.uid(), metadata.mtime(), metadata.mtime_nsec()),
        (70000, 1_600_000_000, 500_000_000)
    );
    assert_eq!(xattr::get(&file, "security.capability").unwrap().unwrap(), capability);
    assert_eq!(xattr::get(&file, "user.note").unwrap().unwrap(), b"hello");
    assert_eq!(xattr::get(&file, "trusted.secret").unwrap(), None);
    assert!(scene.layer(&"g".repeat(150)).exists());
}

#[test]
fn later_members_replace_earlier_ones() {
    if skip_without_root("later_members_replace_earlier_ones") {
        return;
    }
    let scene = Scene::new();
    let tar = TarFixture::new()
        .file("a", b"first")
        .hardlink("b", "a")
        .file("a", b"second")
        .hardlink("b", "b")
        .file("dir/sub/file", b"")
        .file("dir", b"now a file")
        .symlink("link", "elsewhere")
        .directory("link")
        .file("link/file", b"");
    scene.unpack(tar).unwrap();
    assert_eq!(fs::read(scene.layer("a")).unwrap(), b"second");
    assert_eq!(fs::read(scene.layer("b")).unwrap(), b"first");
    assert_eq!(fs::read(scene.layer("dir")).unwrap(), b"now a file");
    assert!(fs::symlink_metadata(scene.layer("link")).unwrap().is_dir());
}

#[test]
fn whiteouts_become_what_overlayfs_reads() {
    if skip_without_root("whiteouts_become_what_overlayfs_reads") {
        return;
    }
    let scene = Scene::new();
    let tar = TarFixture::new()
        .file("etc/.wh.passwd", b"")
        .file("var/.wh..wh..opq", b"")
        .file("var/new", b"")
        .file(".wh..wh.plnk/12.34", b"aufs")
        .file("kept", b"same layer")
        .file(".wh.kept", b"")
        .file("again/old", b"")
        .file(".wh.again", b"")
        .file(".wh.reborn", b"")
        .file("reborn/file", b"")
        .file(".wh.twin", b"")
        .directory("twin");
    scene.unpack(tar).unwrap();
    assert!(is_whiteout(&scene.layer("etc/passwd")));
    assert!(is_opaque(&scene.layer("var")) && scene.layer("var/new").exists());
    assert!(!scene.layer(".wh..wh.plnk").exists());
    assert_eq!(fs::read(scene.layer("kept")).unwrap(), b"same layer");
    assert!(is_opaque(&scene.layer("again")) && scene.layer("again/old").exists());
    assert!(is_opaque(&scene.layer("reborn")) && scene.layer("reborn/file").exists());
    assert!(is_opaque(&scene.layer("twin")));
}

#[test]
fn names_that_climb_are_refused() {
    for tar in [
        TarFixture::new().file("../outside/canary", b"dead"),
        TarFixture::new().file("a/../../outside/canary", b"dead"),
        TarFixture::new().file("/../outside/new", b"dead"),
        TarFixture::new().directory("../outside/new"),
        TarFixture::new().symlink("../outside/new", "x"),
        TarFixture::new().file("../outside/.wh.canary", b""),
        TarFixture::new().file("../outside/.wh..wh..opq", b""),
        TarFixture::new().pax(&[("path", b"../outside/canary")]).file("harmless", b"dead"),
    ] {
        let error = Scene::new().unpack(tar).unwrap_err();
        assert!(matches!(error, UnpackError::Name { source: PathError::Climbs, .. }), "{error:?}");
    }
}

#[test]
fn hard_links_reach_nothing_outside() {
    let scene = Scene::new();
    let canary = scene.place.path().join("outside/canary");
    let absolute = TarFixture::new().hardlink("stolen", canary.to_str().unwrap());
    assert!(matches!(scene.unpack(absolute), Err(UnpackError::Write { .. })));
    let climbing = TarFixture::new().hardlink("stolen", "../outside/canary");
    assert!(matches!(scene.unpack(climbing), Err(UnpackError::LinkTarget { .. })));
    let through_link = TarFixture::new().symlink("up", "../outside").hardlink("stolen", "up/canary");
    assert!(matches!(
        Scene::new().unpack(through_link),
        Err(UnpackError::Write { .. } | UnpackError::Refused { .. })
    ));
}

#[test]
fn writing_through_links_stays_in_the_layer() {
    if skip_without_root("writing_through_links_stays_in_the_layer") {
        return;
    }
    for target in ["../outside", "../../../../../../../../outside", "/outside", "."] {
        let scene = Scene::new();
        let tar = TarFixture::new()
            .directory("outside")
            .symlink("up", target)
            .file("up/canary", b"dead")
            .file("up/.wh.canary2", b"")
            .file("up/.wh..wh..opq", b"");
        scene.unpack(tar).unwrap();
        let landed = if target == "." { "canary" } else { "outside/canary" };
        assert_eq!(fs::read(scene.layer(landed)).unwrap(), b"dead", "{target}");
    }
    let scene = Scene::new();
    let absolute = scene.place.path().join("outside");
    let tar = TarFixture::new().symlink("up", absolute.to_str().unwrap()).file("up/canary", b"dead");
    assert!(scene.unpack(tar).is_err(), "the link dangles inside of the layer");
    let scene = Scene::new();
    let tar = TarFixture::new()
        .symlink("canary", scene.place.path().join("outside/canary").to_str().unwrap())
        .member(EntryType::Regular, "canary", b"a file of its own", |header| header.set_mode(0o777));
    scene.unpack(tar).unwrap();
    assert!(fs::symlink_metadata(scene.layer("canary")).unwrap().is_file());
}

#[test]
fn members_that_no_image_has_are_refused() {
    if skip_without_root("members_that_no_image_has_are_refused") {
        return;
    }
    for tar in [
        TarFixture::new().device("sda", 8, 0),
        TarFixture::new().device("mem", 1, 1),
        TarFixture::new().device("whiteout", 0, 0),
        TarFixture::new().member(EntryType::Block, "sda", b"", |header| {
            header.set_device_major(8).unwrap();
            header.set_device_minor(0).unwrap();
        }),
        TarFixture::new().pax(&[("SCHILY.xattr.trusted.overlay.redirect", b"/")]).directory("dir"),
        TarFixture::new().pax(&[("SCHILY.xattr.user.overlay.opaque", b"y")]).directory("dir"),
        TarFixture::new().symlink("empty", ""),
        TarFixture::new().file(".", b"the root is no file"),
        TarFixture::new().file(".wh.", b""),
        TarFixture::new().file(".wh..", b""),
        TarFixture::new().file("dir/.wh...", b""),
        TarFixture::new().directory("dir").hardlink("again", "dir"),
        TarFixture::new().hardlink("again", "/"),
    ] {
        let error = Scene::new().unpack(tar).unwrap_err();
        assert!(matches!(error, UnpackError::Refused { .. }), "{error:?}");
    }
}

#[test]
fn bombs_are_cut_off() {
    if skip_without_root("bombs_are_cut_off") {
        return;
    }
    let many = (0..101).fold(TarFixture::new(), |tar, n| tar.file(&n.to_string(), b""));
    let big = TarFixture::new().file("big", &vec![0; 2 * 1024 * 1024]);
    let names = (0..100).fold(TarFixture::new(), |tar, n| tar.directory(&format!("{n}{}", "x".repeat(90))));
    for tar in [many, big, names] {
        let error = Scene::new().unpack(tar).unwrap_err();
        assert!(matches!(error, UnpackError::TooLarge(_)), "{error:?}");
    }
    let header = TarFixture::new().member(EntryType::XHeader, "pax", b"", |header| header.set_size(1 << 40));
    let error = Scene::new().unpack(header).unwrap_err();
    assert!(matches!(error, UnpackError::Archive(ArchiveError::ExtensionTooLarge)), "{error:?}");
    let repeated = (0..9).fold(TarFixture::new(), |tar, _| tar.pax(&[("comment", &[b'x'; 120_000])]));
    let error =
        unpack(&repeated.finish()[..], Scene::new().place.path(), &UnpackLimits::default()).unwrap_err();
    assert!(matches!(error, UnpackError::Archive(ArchiveError::ExtensionTooLarge)), "{error:?}");
}

#[test]
fn damaged_archives_are_refused() {
    let cut = TarFixture::new().file("file", &[1; 2000]).finish();
    let mut flipped = cut.clone();
    flipped[0] ^= 1;
    for bytes in [&cut[..1000], &cut[..100], &flipped, b"no tar at all".as_slice(), &[0x1f, 0x8b, 8, 0, 1]] {
        let scene = Scene::new();
        let error = unpack(bytes, &scene.layer(""), &SMALL).unwrap_err();
        assert!(matches!(error, UnpackError::Archive(_)), "{error:?}");
    }
    for (kind, size) in [(EntryType::new(b'V'), 0), (EntryType::GNUSparse, 0), (EntryType::Regular, u64::MAX)]
    {
        let tar = TarFixture::new().member(kind, "x", b"", |header| header.set_size(size));
        let error = Scene::new().unpack(tar).unwrap_err();
        assert!(matches!(error, UnpackError::Archive(_)), "{error:?}");
    }
}

#[test]
fn links_lead_no_deeper_than_names() {
    if skip_without_root("links_lead_no_deeper_than_names") {
        return;
    }
    let deep = "d/".repeat(40);
    let scene = Scene::new();
    let tar = (0..10).fold(TarFixture::new(), |tar, n| {
        let inside = if n == 0 { deep.clone() } else { format!("l{}/{deep}", n - 1) };
        tar.directory(&inside).symlink(&format!("l{n}"), &inside)
    });
    let error = scene.unpack(tar).unwrap_err();
    assert!(matches!(error, UnpackError::Write { .. }), "{error:?}");
}

fn hostile_name() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("a"),
        Just("b"),
        Just("c"),
        Just(".."),
        Just("."),
        Just(""),
        Just("outside"),
        Just("canary"),
        Just(".wh.a"),
        Just(".wh.canary"),
        Just(".wh..wh..opq"),
        Just(".wh.."),
    ];
    proptest::collection::vec(part, 1..4).prop_map(|parts| parts.join("/"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever members a layer has, in whatever order: nothing outside its directory is touched.
    #[test]
    fn no_layer_leaves_its_directory(members in proptest::collection::vec((0u8..5, hostile_name(), hostile_name()), 1..12)) {
        let scene = Scene::new();
        // One archive per member, so that a refused member doesn't shield those after it.
        for (kind, name, target) in members {
            let tar = TarFixture::new();
            let _refused_or_not = scene.unpack(match kind {
                0 => tar.file(&name, b"dead"),
                1 => tar.directory(&name),
                2 => tar.symlink(&name, &target),
                3 => tar.hardlink(&name, &target),
                _ => tar.symlink(&name, scene.place.path().join("outside").to_str().unwrap()),
            });
        }
        // Modes that tests could stumble over when they clean up.
        fs::set_permissions(scene.layer(""), fs::Permissions::from_mode(0o755)).unwrap();
    }
}
