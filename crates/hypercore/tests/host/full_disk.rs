//! A workload fills the disk that the node itself lives on: what is refused says why, what runs goes on, what filled the
//! disk can be removed, and with room again all is well.

use std::{os::unix::fs::symlink, path::Path, time::Duration};

use hypercore_fixtures::{skip_without_machines, skip_without_root, wait_until};
use nix::mount::{MsFlags, mount, umount};

use crate::node::Node;

const TIME_MAX: Duration = Duration::from_secs(60);
/// Enough for busybox and for the room that is set apart, which is taken of four times as much.
const DISK_OPTIONS: &str = "size=128m,mode=0700";

/// A small disk of one's own. Declared before the node that lives on it, so that it goes after it.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new() -> Self {
        let disk = Self(tempfile::Builder::new().prefix("hypercore-disk-").tempdir().unwrap());
        let flags = MsFlags::MS_NODEV;
        mount(Some("tmpfs"), disk.0.path(), Some("tmpfs"), flags, Some(DISK_OPTIONS)).unwrap();
        disk
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A workload's mount that outlives its node for a moment.
        let _ = wait_until(Duration::from_secs(10), || umount(self.0.path()).ok());
    }
}

fn node_on(disk: &Disk) -> Node {
    let mut node = Node::prepare();
    symlink(disk.path(), node.path("data")).unwrap();
    // Nothing is to be cleaned up on its own here.
    node.set("HYPERCORE_RUNTIME_IMAGE_GC_HIGH_PERCENT", "100");
    node.start_agent();
    node.import_busybox();
    node
}

#[test]
fn a_machine_waits_for_room_on_its_host_and_loses_nothing() {
    if skip_without_machines("a_machine_waits_for_room_on_its_host_and_loses_nothing") {
        return;
    }
    let disk = Disk::new();
    let node = node_on(&disk);
    let run = |flags: &[&str], script: &str| {
        let machine = ["run", "--isolation", "microvm"];
        node.run(&[&machine[..], flags, &["busybox", "--", "sh", "-c", script]].concat()).expect(0).stdout
    };
    let write = "until [ -e /go ]; do sleep 0.1; done; yes some text | head -c 24000000 > /data/file; sync; \
        md5sum < /data/file; sleep 1000";
    run(&["-d", "--name", "job", "-v", "kept:/data"], write);
    // All but what the node needs for itself.
    let hog = disk.path().join("hog");
    let room = free_bytes(disk.path()).saturating_sub(8 << 20);
    std::fs::write(&hog, vec![1; usize::try_from(room).unwrap()]).unwrap();
    node.run(&["exec", "job", "touch", "/go"]).expect(0);
    let is_full = || (free_bytes(disk.path()) < 64 * 1024).then_some(());
    assert!(wait_until(TIME_MAX, is_full).is_some(), "the machine does not fill the disk");
    assert_eq!(node.run(&["logs", "job"]).stdout, "");
    std::fs::remove_file(&hog).unwrap();
    let said = wait_until(TIME_MAX, || {
        let said = node.run(&["logs", "job"]).stdout;
        said.contains('-').then_some(said)
    });
    let said = said.expect("the machine does not go on");
    node.run(&["rm", "-f", "job"]).expect(0);
    let whole = run(
        &["--rm", "-v", "kept:/data:ro"],
        "yes some text | head -c 24000000 | md5sum; md5sum < /data/file",
    );
    assert_eq!(whole, format!("{said}{said}"), "what was written is not what is there");
    node.finish();
}

#[test]
fn what_filled_the_disk_can_be_removed_and_then_all_is_well() {
    if skip_without_root("what_filled_the_disk_can_be_removed_and_then_all_is_well") {
        return;
    }
    let disk = Disk::new();
    let node = node_on(&disk);
    assert!(disk.path().join("ballast").exists());
    let fill = "dd if=/dev/zero of=/big bs=64k 2>/dev/null; echo full; while :; do cat /dev/zero >> /big; sleep 0.01; done 2>/dev/null";
    node.detach(&["--name", "hog", "busybox", "--", "sh", "-c", fill]);
    let is_full = || node.run(&["logs", "hog"]).stdout.contains("full").then_some(());
    // The very line that says so may not fit any more.
    let is_big = || (free_bytes(disk.path()) < 64 * 1024).then_some(());
    assert!(wait_until(TIME_MAX, || is_full().or_else(is_big)).is_some(), "the disk does not fill");
    let refused = wait_until(TIME_MAX, || {
        let ended = node.run(&["run", "-d", "busybox", "--", "true"]);
        (ended.code != Some(0)).then_some(ended)
    });
    let refused = refused.expect("workloads are taken in although there is no room");
    assert!(refused.stderr.contains("space") && refused.stderr.contains("hint: "), "{refused:?}");
    assert_eq!(
        node.run(&["ps", "--json"]).expect(0).json().as_array().map(Vec::len).map(|n| n > 0),
        Some(true)
    );
    node.run(&["rm", "-f", "hog"]).expect(0);
    node.run(&["run", "--rm", "busybox", "--", "true"]).expect(0);
    for id in node.run(&["ps", "-aq"]).expect(0).stdout.lines() {
        node.run(&["rm", "-f", id]).expect(0);
    }
    node.finish();
}

#[test]
fn output_that_finds_no_room_is_counted_and_told() {
    if skip_without_root("output_that_finds_no_room_is_counted_and_told") {
        return;
    }
    let disk = Disk::new();
    let node = node_on(&disk);
    let script = "read go; i=0; while [ $i -lt 2000 ]; do echo 0123456789012345678901234567890123456789; i=$((i+1)); done; exit 3";
    node.detach(&["-i", "--name", "talk", "busybox", "--", "sh", "-c", script]);
    let filler = disk.path().join("filler");
    fill(&filler);
    let attached = crate::program::finish(&mut node.command(&["attach", "talk"]), b"go\n");
    assert!(attached.code != Some(3), "it looks as if it were all: {}", attached.stderr);
    let talk = {
        node.wait_for_status("talk", "stopped");
        node.inspect("talk")
    };
    assert_eq!((&talk["exit_code"], &talk["reason_code"]), (&3.into(), &"output_lost".into()), "{talk:#}");
    let logs = node.run(&["logs", "talk"]).expect(0);
    assert!(logs.stderr.contains("output was lost here"), "{logs:?}");
    std::fs::remove_file(&filler).unwrap();
    node.run(&["rm", "talk"]).expect(0);
    node.run(&["run", "--rm", "busybox", "--", "true"]).expect(0);
    node.finish();
}

fn free_bytes(path: &Path) -> u64 {
    let stat = nix::sys::statvfs::statvfs(path).unwrap();
    stat.blocks_available() * stat.fragment_size()
}

/// Takes all room there is.
fn fill(path: &Path) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(path).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    while file.write_all(&[1]).is_ok() {}
}
