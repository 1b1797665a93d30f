//! Volumes on a real directory: made, filled once, refused and removed.

use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn name(text: &str) -> VolumeName {
    text.parse().unwrap()
}

fn store() -> (VolumeStore, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (VolumeStore::open(&directory.path().join("volumes")).unwrap(), directory)
}

#[test]
fn a_volume_is_what_it_was_made_as_until_it_is_removed() {
    let (store, directory) = store();
    let labels = BTreeMap::from([("team".to_owned(), "blue".to_owned())]);
    let made = store.create(&name("cache"), labels.clone(), None).unwrap();
    store.create(&name("alpha"), BTreeMap::new(), None).unwrap();
    assert!(matches!(store.create(&name("cache"), BTreeMap::new(), None), Err(VolumeError::Exists(_))));
    fs::write(made.data.join("kept"), vec![1; 10_000]).unwrap();

    // Another store on the same directory: the next run of the agent.
    let again = VolumeStore::open(&directory.path().join("volumes")).unwrap();
    assert_eq!(again.get(&name("cache")).unwrap(), Volume { labels, ..made.clone() });
    let names: Vec<_> = again.list().unwrap().into_iter().map(|volume| volume.name.to_string()).collect();
    assert_eq!(names, ["alpha", "cache"]);
    assert!(again.size_bytes(&made).unwrap() >= 10_000);

    again.remove(&name("cache"), Vec::new).unwrap();
    assert!(matches!(again.get(&name("cache")), Err(VolumeError::NotFound(_))));
    assert!(matches!(again.remove(&name("cache"), Vec::new), Err(VolumeError::NotFound(_))));
    assert!(!made.data.exists());
}

#[test]
fn a_volume_in_use_stays() {
    let (store, _directory) = store();
    let made = store.create(&name("cache"), BTreeMap::new(), None).unwrap();
    let user = WorkloadId::from_bytes([7; 16]);
    let refused = store.remove(&name("cache"), || vec![user]).unwrap_err();
    assert!(refused.to_string().contains(&user.short()), "{refused}");
    assert!(made.data.is_dir());
}

#[test]
fn an_empty_volume_is_filled_once_with_what_the_image_has() {
    let (store, directory) = store();
    let image = directory.path().join("image");
    fs::create_dir_all(image.join("deep/er")).unwrap();
    fs::write(image.join("deep/er/file"), "first").unwrap();
    fs::set_permissions(&image, fs::Permissions::from_mode(0o750)).unwrap();
    symlink("/etc/passwd", image.join("link")).unwrap();
    nix::unistd::mkfifo(&image.join("pipe"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();

    let data = store.take(&name("cache"), Some(&image), Ownership::AsInImage).unwrap();
    assert_eq!(fs::read_to_string(data.join("deep/er/file")).unwrap(), "first");
    // The link itself, not what it leads to; and nothing that could block a reader.
    assert_eq!(fs::read_link(data.join("link")).unwrap(), Path::new("/etc/passwd"));
    assert!(!data.join("pipe").exists());
    assert_eq!(fs::metadata(&data).unwrap().mode() & 0o7777, 0o750);

    fs::write(data.join("deep/er/file"), "changed").unwrap();
    assert_eq!(store.take(&name("cache"), Some(&image), Ownership::AsInImage).unwrap(), data);
    assert_eq!(fs::read_to_string(data.join("deep/er/file")).unwrap(), "changed");
}

#[test]
fn what_a_crash_left_half_done_goes() {
    let (store, directory) = store();
    let volumes = directory.path().join("volumes");
    fs::create_dir_all(volumes.join(".half/data")).unwrap();
    store.create(&name("whole"), BTreeMap::new(), None).unwrap();
    // A copy that was cut short is begun anew.
    let whole = volumes.join("whole");
    fs::create_dir(whole.join("first")).unwrap();
    fs::write(whole.join("first/rest"), "").unwrap();
    let image = directory.path().join("image");
    fs::create_dir(&image).unwrap();
    fs::write(image.join("file"), "").unwrap();

    let store = VolumeStore::open(&volumes).unwrap();
    assert!(!volumes.join(".half").exists());
    let data = store.take(&name("whole"), Some(&image), Ownership::AsInImage).unwrap();
    assert!(data.join("file").exists() && !data.join("rest").exists());
    assert!(!whole.join("first").exists());
}

#[test]
fn ids_are_those_of_the_image_also_below_a_user_namespace() {
    let (store, directory) = store();
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let image = directory.path().join("image");
    fs::create_dir(&image).unwrap();
    for (file, id) in [("own", 200_007), ("foreign", 5)] {
        fs::write(image.join(file), "").unwrap();
        std::os::unix::fs::lchown(image.join(file), Some(id), Some(id)).unwrap();
    }
    let shifted = Ownership::Shifted { first: 200_000, count: 1000 };
    let data = store.take(&name("cache"), Some(&image), shifted).unwrap();
    assert_eq!(fs::metadata(data.join("own")).unwrap().uid(), 7);
    assert_eq!(fs::metadata(data.join("foreign")).unwrap().gid(), 65_534);
}

/// What a machine would get of a volume, with no image beneath.
fn for_machine(store: &VolumeStore, volume: &str, is_read_only: bool) -> Result<ForMachine, VolumeError> {
    store.take_for_machine::<PathBuf, VolumeError>(&name(volume), is_read_only, || Ok(None))
}

#[test]
fn the_first_use_decides_what_a_volume_is() {
    let (store, _directory) = store();
    for volume in ["of-machine", "of-container"] {
        store.create(&name(volume), BTreeMap::new(), None).unwrap();
        assert_eq!(store.get(&name(volume)).unwrap().form, VolumeForm::Open);
    }
    let disk = |volume: &str| match for_machine(&store, volume, false).unwrap() {
        ForMachine::Disk(path) => path,
        ForMachine::Directory(path) => panic!("{} is no disk", path.display()),
    };
    assert!(disk("of-machine").is_file() && disk("new").is_file());
    let made = store.get(&name("of-machine")).unwrap();
    assert_eq!(made.form, VolumeForm::Block { capacity_bytes: CAPACITY_BYTES_DEFAULT });
    assert_eq!(fs::metadata(&made.data).unwrap().len(), CAPACITY_BYTES_DEFAULT);
    let size_bytes = store.size_bytes(&made).unwrap();
    assert!((1..CAPACITY_BYTES_DEFAULT / 100).contains(&size_bytes), "{size_bytes} bytes of an empty disk");
    let refused = store.take(&name("of-machine"), None, Ownership::AsInImage).unwrap_err();
    assert!(matches!(refused, VolumeError::Form(volume) if volume == name("of-machine")));

    let data = store.take(&name("of-container"), None, Ownership::AsInImage).unwrap();
    assert_eq!(for_machine(&store, "of-container", false).unwrap(), ForMachine::Directory(data));
}

#[test]
fn a_volume_with_a_size_is_a_disk_of_it_from_the_start() {
    let (store, _directory) = store();
    let made = store.create(&name("disk"), BTreeMap::new(), Some(32 << 20)).unwrap();
    assert_eq!(store.size_bytes(&made).unwrap(), 0);
    assert!(store.take(&name("disk"), None, Ownership::AsInImage).is_err());
    for_machine(&store, "disk", false).unwrap();
    assert_eq!(fs::metadata(&made.data).unwrap().len(), 32 << 20);
    store.remove(&name("disk"), Vec::new).unwrap();
    assert!(!made.data.exists());
}

#[test]
fn a_record_from_before_there_were_disks_is_a_directorys() {
    let (store, _directory) = store();
    let made = store.create(&name("old"), BTreeMap::new(), None).unwrap();
    fs::write(made.data.with_file_name("volume.json"), r#"{"created_at":1}"#).unwrap();
    assert_eq!(store.get(&name("old")).unwrap().form, VolumeForm::Directory);
}
