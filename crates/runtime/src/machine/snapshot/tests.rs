//! A snapshot is whole or not at all, and one that came from elsewhere is believed nothing.

use std::{
    fs::File,
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink},
};

use hypercore_model::{
    Digest, Isolation, Timestamp, WorkloadId, WorkloadSpec,
    machine::{Accelerator, Monitor},
};
use oci_spec::image::ImageConfiguration;

use super::{origin::Part, *};

/// A node's snapshots, and a machine that they are made of.
struct Lab {
    scratch: tempfile::TempDir,
    store: SnapshotStore,
    origin: Origin,
}

impl Lab {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let store = SnapshotStore::open(&scratch.path().join("snapshots")).unwrap();
        let part = |name: &str| {
            let path = scratch.path().join(format!("of-node-{name}"));
            fs::write(&path, format!("the {name}")).unwrap();
            let stamp = file::Stamp::of(&path).unwrap();
            Part { name: name.to_owned(), path, stamp }
        };
        let files = [part("kernel"), part("initrd"), part("image.ext4")];
        let machine = SavedMachine {
            monitor: Monitor::Qemu,
            version: "7.2.0".to_owned(),
            accelerator: Accelerator::Tcg,
            cpus: 1,
            memory_mib: 512,
            is_mapped: false,
        };
        let image = ImageConfiguration::default();
        let origin = Origin { machine, image_digest: digest(), image, files };
        Self { scratch, store, origin }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn file(&self, file: &str) -> PathBuf {
        self.path("snapshots/ready").join(file)
    }

    fn begin(&self) -> Result<Draft, SnapshotError> {
        self.store.begin(&name("ready"), &self.origin)
    }

    /// A snapshot `ready`, with a sparse memory of 40 MiB.
    fn made(self) -> Self {
        let draft = self.begin().unwrap();
        fs::write(draft.directory().join("state"), "the state").unwrap();
        fs::write(draft.directory().join("writable.ext4"), "the disk").unwrap();
        let memory = File::create(draft.directory().join("memory")).unwrap();
        memory.set_len(40 << 20).unwrap();
        memory.write_all_at(b"a page", 20 << 20).unwrap();
        draft.commit(WorkloadId::from_entropy([1; 16]), &spec(), Timestamp::from_unix_ms(7)).unwrap();
        self
    }

    /// Changes what the manifest says, as text.
    fn edit(&self, from: &str, to: &str) {
        let path = self.file("snapshot.json");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
    }

    /// Lends `ready` to a workload.
    fn lend(&self) -> Result<Lent, SnapshotError> {
        let workload = self.path("workload");
        fs::create_dir_all(&workload).unwrap();
        self.store.lend(&name("ready"), &workload)
    }

    #[track_caller]
    fn refused(&self) -> String {
        crate_chain(&self.lend().expect_err("it was lent"))
    }
}

fn crate_chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| error.source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}

fn name(text: &str) -> SnapshotName {
    text.parse().unwrap()
}

fn digest() -> Digest {
    format!("sha256:{}", "07".repeat(32)).parse().unwrap()
}

fn spec() -> WorkloadSpec {
    let mut spec = WorkloadSpec::of_image("web:1".parse().unwrap());
    spec.isolation = Isolation::MicroVm;
    spec
}

#[test]
fn a_snapshot_is_lent_with_a_disk_of_ones_own_and_outlives_nobody() {
    let lab = Lab::new().made();
    let lent = lab.lend().unwrap();
    assert!(lent.manifest.machine.is_mapped);
    assert_eq!(fs::read_to_string(&lent.writable).unwrap(), "the disk");
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    for (file, of) in [("memory", lab.file("memory")), ("kernel", lab.path("of-node-kernel"))] {
        assert_eq!(inode(&lent.directory.join(file)), inode(&of), "{file} was copied");
    }
    assert_ne!(inode(&lent.writable), inode(&lab.file("writable.ext4")));
    fs::write(&lent.writable, "written since").unwrap();
    lab.lend().unwrap();
    assert_eq!(
        fs::read_to_string(&lent.writable).unwrap(),
        "the disk",
        "the first run begins with the snapshot's"
    );
    lab.store.remove(&name("ready")).unwrap();
    assert!(lent.directory.join("memory").exists());
    assert!(matches!(lab.store.remove(&name("ready")), Err(SnapshotError::NotFound(_))));
    take_back(&lab.path("workload")).unwrap();
    assert!(!lent.directory.exists() && lent.writable.exists());
    assert_eq!(fs::read_dir(lab.path("snapshots")).unwrap().count(), 1, "only the seals' directory is left");
}

#[test]
fn what_it_takes_is_counted_without_holes_and_without_what_is_shared() {
    let lab = Lab::new().made();
    let looks = lab.store.list().unwrap();
    let snapshot = looks[0].found.as_ref().unwrap();
    assert!((1..1 << 20).contains(&snapshot.size_bytes), "{}", snapshot.size_bytes);
    assert_eq!((looks.len(), snapshot.manifest.created_at.unix_ms()), (1, 7));
    let modes = fs::metadata(lab.file("")).unwrap().mode() & 0o777;
    assert_eq!((modes, fs::metadata(lab.file("snapshot.json")).unwrap().mode() & 0o777), (0o700, 0o600));
}

#[test]
fn a_name_is_taken_once_and_a_draft_leaves_nothing() {
    let lab = Lab::new().made();
    assert!(matches!(lab.begin(), Err(SnapshotError::Exists(_))));
    let before = fs::read_dir(lab.path("snapshots")).unwrap().count();
    let other = lab.store.begin(&name("other"), &lab.origin).unwrap();
    fs::write(other.directory().join("state"), "half").unwrap();
    let unwritten = other.commit(WorkloadId::from_entropy([1; 16]), &spec(), Timestamp::from_unix_ms(7));
    assert!(matches!(unwritten, Err(SnapshotError::Unwritten("writable.ext4"))), "{unwritten:?}");
    drop(lab.store.begin(&name("other"), &lab.origin).unwrap());
    assert_eq!(fs::read_dir(lab.path("snapshots")).unwrap().count(), before);
}

#[test]
fn what_a_crash_left_is_swept_at_the_next_start() {
    let lab = Lab::new().made();
    let draft = lab.store.begin(&name("other"), &lab.origin).unwrap();
    let left = draft.directory().to_owned();
    fs::write(left.join("state"), "half").unwrap();
    std::mem::forget(draft);
    let store = SnapshotStore::open(&lab.path("snapshots")).unwrap();
    assert!(!left.exists());
    assert!(store.get(&name("ready")).is_ok());
}

#[test]
fn what_a_machine_booted_from_must_still_be_there() {
    let lab = Lab::new();
    fs::remove_file(lab.path("of-node-initrd")).unwrap();
    fs::write(lab.path("of-node-initrd"), "the initrd of an upgrade").unwrap();
    assert!(matches!(lab.begin(), Err(SnapshotError::Replaced(path)) if path.ends_with("of-node-initrd")));
}

#[test]
fn each_file_that_is_cut_is_named() {
    for file in ["state", "memory", "writable.ext4", "image.ext4", "kernel", "initrd"] {
        let lab = Lab::new().made();
        let path = lab.file(file);
        let cut = fs::metadata(&path).unwrap().len() - 1;
        File::options().write(true).open(&path).unwrap().set_len(cut).unwrap();
        let told = lab.refused();
        assert!(told.contains(&format!("file {file} has {cut} bytes")), "{told}");
        fs::remove_file(&path).unwrap();
        assert!(lab.refused().contains("is missing"));
        assert!(lab.store.list().unwrap()[0].found.is_err());
    }
}

#[test]
fn each_file_that_changed_is_named() {
    for file in ["state", "memory", "writable.ext4", "image.ext4", "kernel", "initrd"] {
        let lab = Lab::new().made();
        File::options().write(true).open(lab.file(file)).unwrap().write_all_at(b"X", 1).unwrap();
        let told = lab.refused();
        assert!(told.contains(file) && told.contains("has changed"), "{told}");
    }
}

#[test]
fn a_copy_is_read_whole_before_it_is_used_and_once() {
    let lab = Lab::new().made();
    let copy = lab.path("snapshots/copy");
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(lab.file("")).unwrap().flatten() {
        fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    let seal = || fs::read(lab.path("snapshots/.seals/copy"));
    let lend = || lab.store.lend(&name("copy"), &lab.path("workload"));
    fs::create_dir(lab.path("workload")).unwrap();
    // It says what it was made of under any name; and nothing beside the original's seal is believed of it.
    fs::copy(lab.path("snapshots/.seals/ready"), lab.path("snapshots/.seals/copy")).unwrap();
    File::options().write(true).open(copy.join("memory")).unwrap().write_all_at(b"X", 30 << 20).unwrap();
    let told = crate_chain(&lend().unwrap_err());
    assert!(told.contains("memory") && told.contains("has changed"), "{told}");
    fs::copy(lab.file("memory"), copy.join("memory")).unwrap();
    lend().unwrap();
    let sealed = seal().unwrap();
    lend().unwrap();
    assert_eq!(seal().unwrap(), sealed);
    let snapshot = lab.store.get(&name("copy")).unwrap();
    lab.store.verify(&snapshot).unwrap();
    File::options().write(true).open(copy.join("memory")).unwrap().write_all_at(b"X", 30 << 20).unwrap();
    assert!(lab.store.verify(&snapshot).is_err());
}

#[test]
fn links_devices_and_files_of_others_are_refused() {
    type Make = fn(&Path);
    let cases: [(Make, &str); 4] = [
        (|path| symlink("/etc/passwd", path).unwrap(), "no regular file"),
        (|path| fs::create_dir(path).unwrap(), "no regular file"),
        (|path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap(), "no regular file"),
        (
            |path| {
                fs::write(path, "the state").unwrap();
                fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
            },
            "written by others",
        ),
    ];
    for file in ["state", "snapshot.json"] {
        for (make, told) in cases {
            let lab = Lab::new().made();
            fs::remove_file(lab.file(file)).unwrap();
            make(&lab.file(file));
            let refused = lab.refused();
            assert!(refused.contains(told) && refused.contains(file), "{file}: {refused}");
        }
    }
    let lab = Lab::new().made();
    symlink(lab.file(""), lab.path("snapshots/link")).unwrap();
    assert!(lab.store.get(&name("link")).unwrap_err().to_string().contains("lies in a directory"));
    fs::set_permissions(lab.file(""), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(lab.refused().contains("written by others"));
}

#[test]
fn a_manifest_that_can_not_be_believed_is_refused() {
    for (from, to, told) in [
        ("\"format\": 1", "\"format\": 2", "has the format 2"),
        ("\"format\": 1", "\"format\": 1, \"more\": true", "unknown field"),
        ("\"memory_mib\": 512", "\"memory_mib\": 1", "another size"),
        ("\"cpus\": 1", "\"cpus\": 1000000", "another size"),
        ("\"version\": \"7.2.0\"", "\"version\": \"7\\u001b[2J\"", "version"),
        ("\"microvm\"", "\"container\"", "a container"),
        ("\"initrd\": {", "\"../initrd\": {", "names no file initrd"),
        (
            "\"files\": {",
            "\"files\": {\"../../etc\": {\"len_bytes\": 1, \"digest\": \"\"},",
            "which no snapshot has",
        ),
        ("\"pids_max\": 4096", "\"pids_max\": 0", "can't be"),
        ("{", "", "is none"),
    ] {
        let lab = Lab::new().made();
        lab.edit(from, to);
        let refused = lab.refused();
        assert!(refused.contains(told), "{to}: {refused}");
    }
    let lab = Lab::new().made();
    let volume = serde_json::to_string(&vec!["data:/d".parse::<hypercore_model::Mount>().unwrap()]).unwrap();
    lab.edit("\"mounts\": []", &format!("\"mounts\": {volume}"));
    assert!(lab.refused().contains("is of a workload with a volume"), "{}", lab.refused());
    let lab = Lab::new().made();
    File::options().write(true).open(lab.file("snapshot.json")).unwrap().set_len(1 << 40).unwrap();
    assert!(lab.refused().contains("at most"), "a huge manifest is read");
}

#[test]
fn only_the_engine_that_made_it_can_go_on_with_it() {
    let lab = Lab::new();
    let saved = &lab.origin.machine;
    let here = crate::machine::bundle::Platform {
        monitor: Monitor::Qemu,
        program: PathBuf::new(),
        version: Monitor::Qemu.check_version("QEMU emulator version 7.2.0").unwrap(),
        accelerator: Accelerator::Tcg,
        kernel: crate::machine::kernel::Kernel {
            image: PathBuf::new(),
            release: String::new(),
            modules: PathBuf::new(),
        },
        agent: PathBuf::new(),
        cache: PathBuf::new(),
        boot_time_max: std::time::Duration::ZERO,
    };
    assert!(saved.fits(&here));
    let newer = Monitor::Qemu.check_version("QEMU emulator version 8.0.0").unwrap();
    assert!(!saved.fits(&Platform { version: newer, ..here.clone() }));
    assert!(!saved.fits(&Platform { accelerator: Accelerator::Kvm, ..here.clone() }));
    assert!(!saved.fits(&Platform { monitor: Monitor::Firecracker, ..here }));
}

#[test]
fn a_digest_is_of_the_bytes_and_not_of_the_holes() {
    let scratch = tempfile::tempdir().unwrap();
    let make = |name: &str, is_sparse: bool| {
        let path = scratch.path().join(name);
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        if is_sparse {
            file.set_len(300_000).unwrap();
        } else {
            file.write_all_at(&vec![0; 300_000], 0).unwrap();
        }
        file.write_all_at(b"here", 199_999).unwrap();
        file
    };
    let (sparse, dense) = (make("sparse", true), make("dense", false));
    assert_eq!(file::digest(&sparse).unwrap(), file::digest(&dense).unwrap());
    dense.write_all_at(b"there", 65_536).unwrap();
    assert_ne!(file::digest(&sparse).unwrap(), file::digest(&dense).unwrap());
    sparse.set_len(300_001).unwrap();
    let longer = file::digest(&sparse).unwrap();
    sparse.set_len(300_000).unwrap();
    assert_ne!(file::digest(&sparse).unwrap(), longer);
}

#[test]
fn names_for_clones_are_told_from_others() {
    assert!(is_temporary(&temporary_name("0a1b").unwrap()));
    assert!(!is_temporary(&name("ready")));
    assert!(temporary_name("-").is_err());
}

#[test]
fn a_copy_that_is_used_by_many_at_once_is_lent_to_all() {
    let lab = Lab::new().made();
    fs::remove_file(lab.path("snapshots/.seals/ready")).unwrap();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let workload = lab.path(&format!("workload-{number}"));
            let store = lab.store.clone();
            scope.spawn(move || {
                fs::create_dir(&workload).unwrap();
                store.lend(&name("ready"), &workload).unwrap();
            });
        }
    });
    assert_eq!(fs::read_dir(lab.path("snapshots/.seals")).unwrap().count(), 1);
}
