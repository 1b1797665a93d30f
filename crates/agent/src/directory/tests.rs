//! The directories against wrong modes, other agents and missing keys.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

struct Scratch {
    root: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    fn data(&self) -> PathBuf {
        self.root.path().join("lib/data")
    }

    fn runtime(&self) -> PathBuf {
        self.root.path().join("run")
    }

    fn open(&self) -> Result<Directory, DirectoryError> {
        Directory::open(&self.data(), &self.runtime())
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn everything_is_made_for_its_owner_alone() {
    let scratch = Scratch::new();
    let directory = scratch.open().unwrap();
    directory.identity().unwrap();
    directory.data_key().unwrap();
    for path in
        [scratch.data(), scratch.runtime(), directory.images(), directory.workloads(), directory.netns()]
    {
        assert_eq!(mode(&path), 0o700, "{}", path.display());
    }
    for name in ["identity.key", "data.key", "lock"] {
        assert_eq!(mode(&scratch.data().join(name)), 0o600, "{name}");
    }
    let is_unfinished =
        |entry: io::Result<fs::DirEntry>| entry.unwrap().path().extension() == Some("new".as_ref());
    assert!(!fs::read_dir(scratch.data()).unwrap().any(is_unfinished));
}

#[test]
fn the_identity_is_made_once() {
    let scratch = Scratch::new();
    let first = scratch.open().unwrap().identity().unwrap().node_id();
    assert_eq!(scratch.open().unwrap().identity().unwrap().node_id(), first);
    assert_ne!(Scratch::new().open().unwrap().identity().unwrap().node_id(), first);
}

#[test]
fn a_second_agent_is_refused_and_the_first_is_named() {
    let scratch = Scratch::new();
    let first = scratch.open().unwrap();
    let error = scratch.open().unwrap_err();
    let expected = format!("in use by another agent (process {})", std::process::id());
    assert!(error.to_string().contains(&expected), "{error}");
    let elsewhere = Directory::open(&scratch.root.path().join("other"), &scratch.runtime());
    assert!(
        matches!(elsewhere, Err(DirectoryError::Lock(LockError::Held { .. }))),
        "the runtime directory is its own"
    );
    let clone = first.clone();
    drop(first);
    assert!(scratch.open().is_err(), "a clone holds the lock");
    drop(clone);
    scratch.open().unwrap();
}

#[test]
fn a_pid_that_a_dead_agent_left_is_not_believed() {
    let scratch = Scratch::new();
    drop(scratch.open().unwrap());
    fs::write(scratch.data().join("lock"), "1\n").unwrap();
    scratch.open().unwrap();
}

#[test]
fn what_others_can_read_is_refused_with_the_command_that_helps() {
    let scratch = Scratch::new();
    scratch.open().unwrap().identity().unwrap();
    let key = scratch.data().join("identity.key");
    for loose in [0o640, 0o604, 0o666] {
        set_mode(&key, loose);
        let error = scratch.open().unwrap().identity().unwrap_err();
        let hint = format!("run: chmod 600 {}", key.display());
        assert!(error.to_string().ends_with(&hint), "{error}");
    }
    set_mode(&scratch.data(), 0o755);
    let error = scratch.open().unwrap_err();
    assert!(error.to_string().ends_with(&format!("run: chmod 700 {}", scratch.data().display())), "{error}");
    assert_eq!(mode(&scratch.data()), 0o755, "it is not changed behind its owner's back");
}

#[test]
fn a_key_that_the_state_needs_is_never_made_anew() {
    let scratch = Scratch::new();
    let directory = scratch.open().unwrap();
    fs::write(directory.state(), "a state").unwrap();
    for missing in [directory.identity().unwrap_err(), directory.data_key().unwrap_err()] {
        assert!(matches!(missing, DirectoryError::KeyMissing { .. }), "{missing}");
    }
}

#[test]
fn a_damaged_key_and_a_link_to_one_are_refused() {
    let scratch = Scratch::new();
    let directory = scratch.open().unwrap();
    let key = scratch.data().join("identity.key");
    for content in ["", "abc\n", &"g".repeat(64), &"0".repeat(63), &"0".repeat(65), &"0".repeat(10_000)] {
        fs::write(&key, content).unwrap();
        set_mode(&key, 0o600);
        let error = directory.identity().unwrap_err();
        assert!(matches!(error, DirectoryError::Secret(SecretError::Content(_))), "{error}");
    }
    fs::write(&key, "0".repeat(64)).unwrap();
    directory.identity().unwrap();
    fs::rename(&key, scratch.data().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(scratch.data().join("elsewhere"), &key).unwrap();
    assert!(matches!(directory.identity(), Err(DirectoryError::Secret(SecretError::Read { .. }))));
}

#[test]
fn only_what_is_named_after_a_workload_is_one() {
    let scratch = Scratch::new();
    let directory = scratch.open().unwrap();
    let id = WorkloadId::from_entropy([5; 16]);
    for name in [id.to_string().as_str(), "lost+found", "1b4e28ba"] {
        fs::create_dir(directory.workloads().join(name)).unwrap();
    }
    assert_eq!(directory.workload_ids().unwrap(), [id]);
    assert!(directory.workload(id).exit().ends_with(format!("workloads/{id}/exit.json")));
}
