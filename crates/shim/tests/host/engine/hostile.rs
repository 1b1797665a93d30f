//! Images that try to lead the start of a container out of it: each is refused or neutralised, and a canary on the host
//! stays as it was.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::PathBuf,
};

use hypercore_fixtures::skip_without_root;
use hypercore_runtime::bundle::BundleError;
use nix::{
    sys::stat::{Mode, SFlag, makedev, mknod},
    unistd::mkfifo,
};

use super::Machine;

/// A directory of the host that no image may touch.
struct Canary(PathBuf);

impl Canary {
    fn beside(machine: &Machine) -> Self {
        let directory = machine.host().join("canary");
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("passwd"), "root:x:0:0::/canary:/bin/sh\n").unwrap();
        Self(directory)
    }

    /// What a link in an image says that wants to get here.
    fn path(&self) -> &std::path::Path {
        &self.0
    }

    fn assert_untouched(&self) {
        let names: Vec<_> = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["passwd"]);
        assert_eq!(fs::read_to_string(self.0.join("passwd")).unwrap(), "root:x:0:0::/canary:/bin/sh\n");
    }
}

fn replace_by_link(machine: &Machine, place: &str, target: &std::path::Path) {
    let path = machine.layer().join(place);
    if path.is_dir() {
        fs::remove_dir_all(&path).unwrap();
    } else {
        let _ = fs::remove_file(&path);
    }
    symlink(target, path).unwrap();
}

#[test]
fn the_kernels_own_places_cannot_be_led_elsewhere() {
    if skip_without_root("the_kernels_own_places_cannot_be_led_elsewhere") {
        return;
    }
    for place in ["dev", "proc", "sys"] {
        let machine = Machine::shell("true");
        let canary = Canary::beside(&machine);
        replace_by_link(&machine, place, canary.path());
        let error = machine.prepare().unwrap_err();
        assert!(matches!(error, BundleError::NotOwnDirectory(_)), "{place}: {error}");
        canary.assert_untouched();

        fs::remove_file(machine.layer().join(place)).unwrap();
        fs::write(machine.layer().join(place), "").unwrap();
        assert!(machine.prepare().is_err(), "{place} is a file");
    }
}

#[test]
fn places_in_etc_are_found_inside_the_image_or_refused() {
    if skip_without_root("places_in_etc_are_found_inside_the_image_or_refused") {
        return;
    }
    // As distributions for machines have it: a link to what a service would write.
    let machine = Machine::shell("cat /etc/resolv.conf");
    fs::write(machine.bundle().join("resolv.conf"), "nameserver 192.0.2.1\n").unwrap();
    symlink("../run/systemd/resolve/stub-resolv.conf", machine.layer().join("etc/resolv.conf")).unwrap();
    assert_eq!(machine.run().stdout, "nameserver 192.0.2.1\n");

    for target in ["/proc/sysrq-trigger", "/sys/kernel/x", "/dev/null", "resolv.conf"] {
        let machine = Machine::shell("true");
        fs::write(machine.bundle().join("resolv.conf"), "").unwrap();
        symlink(target, machine.layer().join("etc/resolv.conf")).unwrap();
        let error = machine.prepare().unwrap_err();
        assert!(error.to_string().contains("resolv.conf"), "{target}: {error}");
    }
    let machine = Machine::shell("true");
    fs::write(machine.bundle().join("hosts"), "").unwrap();
    fs::create_dir(machine.layer().join("etc/hosts")).unwrap();
    assert!(machine.prepare().unwrap_err().to_string().contains("/etc/hosts"));
}

#[test]
fn links_at_mount_points_stay_inside() {
    if skip_without_root("links_at_mount_points_stay_inside") {
        return;
    }
    let mut machine = Machine::shell("echo mine > /data/file; cat /data/file");
    let canary = Canary::beside(&machine);
    replace_by_link(&machine, "data", canary.path());
    replace_by_link(&machine, "up", std::path::Path::new("../../../../../.."));
    let above = canary.path().strip_prefix("/").unwrap().to_owned();
    machine.spec.mounts = vec!["one:/data".parse().unwrap()];
    machine.spec.mounts.push(format!("two:/up/{}", above.display()).parse().unwrap());
    machine.spec.workdir = Some("/data".into());
    assert_eq!(machine.run().stdout, "mine\n");
    canary.assert_untouched();
}

#[test]
fn working_directories_lead_nowhere_else() {
    if skip_without_root("working_directories_lead_nowhere_else") {
        return;
    }
    let mut machine = Machine::shell("pwd; ls");
    let canary = Canary::beside(&machine);
    replace_by_link(&machine, "out", canary.path());
    machine.spec.workdir = Some("/out".into());
    // A link that leads nowhere inside: nothing is made behind it.
    assert!(matches!(machine.prepare(), Err(BundleError::Workdir { .. })));
    machine.spec.workdir = Some("/etc/passwd".into());
    assert!(matches!(machine.prepare(), Err(BundleError::Workdir { .. })));
    for fds in ["/proc/self/fd", "/proc/self/fd/7", "/proc/1/cwd"] {
        machine.spec.workdir = Some(fds.into());
        let ended = machine.create().map(|started| started.wait());
        if let Ok(ended) = ended {
            assert!(!ended.stdout.contains("canary") && !ended.stdout.contains("bundle"), "{ended:?}");
            machine.delete();
        }
    }
    canary.assert_untouched();
}

#[test]
fn working_directories_are_made_in_volumes_and_not_behind_their_links() {
    if skip_without_root("working_directories_are_made_in_volumes_and_not_behind_their_links") {
        return;
    }
    for user_namespace in [false, true] {
        let mut machine = Machine::shell("pwd; stat -c %u . ..; touch x");
        let canary = Canary::beside(&machine);
        machine.spec.user_namespace = user_namespace;
        machine.spec.user = Some("app".into());
        machine.spec.mounts = vec!["kept:/data".parse().unwrap()];
        machine.spec.workdir = Some("/data/deep/down".into());
        let ended = machine.run();
        assert_eq!(ended.stdout, "/data/deep/down\n1000\n0\n", "{ended:?}");
        assert_eq!(fs::metadata(machine.volume("kept").join("deep/down/x")).unwrap().uid(), 1000);
        symlink(canary.path(), machine.volume("kept").join("out")).unwrap();
        machine.spec.workdir = Some("/data/out/new".into());
        assert!(matches!(machine.prepare(), Err(BundleError::Workdir { .. })));
        // A mount that can't be written to is not there to be changed.
        machine.spec.mounts = vec!["kept:/data:ro".parse().unwrap()];
        machine.spec.workdir = Some("/data/other".into());
        assert!(matches!(machine.prepare(), Err(BundleError::Workdir { .. })));
        canary.assert_untouched();
    }
}

#[test]
fn set_id_programs_of_an_image_gain_nothing() {
    if skip_without_root("set_id_programs_of_an_image_gain_nothing") {
        return;
    }
    for user_namespace in [false, true] {
        let mut machine = Machine::shell("sleep 100");
        machine.spec.user_namespace = user_namespace;
        machine.spec.user = Some("app".into());
        let program = machine.layer().join("bin/busybox-set-id");
        fs::copy("/bin/busybox", &program).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o6755)).unwrap();
        let first = machine.create().unwrap();
        // This part of busybox goes no further when its set-id bits didn't count.
        let exec = machine.exec(&["busybox-set-id", "su", "-c", "id"]).unwrap().wait();
        assert!(exec.stderr.contains("must be suid"), "{exec:?}");
        machine.delete();
        first.wait();
        machine.spec.command = ["busybox-set-id", "su", "-c", "id"].map(str::to_owned).to_vec();
        let first = machine.run();
        assert!(first.stderr.contains("must be suid"), "{first:?}");
    }
}

#[test]
fn accounts_are_read_inside_and_within_bounds() {
    if skip_without_root("accounts_are_read_inside_and_within_bounds") {
        return;
    }
    let machine = Machine::shell("echo $HOME");
    let canary = Canary::beside(&machine);
    replace_by_link(&machine, "etc/passwd", &canary.path().join("passwd"));
    assert_ne!(machine.run().stdout, "/canary\n");

    let of = |spoil: &dyn Fn(&std::path::Path)| {
        let machine = Machine::shell("true");
        let passwd = machine.layer().join("etc/passwd");
        fs::remove_file(&passwd).unwrap();
        spoil(&passwd);
        machine.prepare().unwrap_err().to_string()
    };
    let pipe = of(&|passwd| mkfifo(passwd, Mode::from_bits_truncate(0o644)).unwrap());
    assert!(pipe.contains("/etc/passwd"), "{pipe}");
    let huge = of(&|passwd| fs::File::create(passwd).unwrap().set_len(1 << 40).unwrap());
    assert!(huge.contains("/etc/passwd"), "{huge}");
    canary.assert_untouched();
}

#[test]
fn device_nodes_of_an_image_are_dead() {
    if skip_without_root("device_nodes_of_an_image_are_dead") {
        return;
    }
    let machine =
        Machine::shell("head -c1 /root-disk >/dev/null 2>&1 && echo read; ls /dev | grep evil; echo ended");
    let mode = Mode::from_bits_truncate(0o666);
    // The machine's memory device: openable without harm, were it not for `nodev`.
    for place in ["root-disk", "dev/evil"] {
        mknod(&machine.layer().join(place), SFlag::S_IFCHR, mode, makedev(1, 5)).unwrap();
    }
    let ended = machine.run();
    assert_eq!(ended.stdout, "ended\n", "{ended:?}");
}

#[test]
fn control_characters_in_what_an_image_says_reach_nobodys_terminal_as_such() {
    if skip_without_root("control_characters_in_what_an_image_says_reach_nobodys_terminal_as_such") {
        return;
    }
    let mut machine = Machine::shell("");
    machine.spec.command = vec!["\u{1b}]0;owned\u{7}\nnothing".into()];
    let failure = machine.create().err().unwrap();
    assert!(failure.message.contains("in PATH"), "{failure:?}");
    assert!(!failure.message.contains(char::is_control), "{failure:?}");
    machine.assert_nothing_left();
}
