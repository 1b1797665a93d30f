//! What can't be kept, restored or forked is refused with a code and a hint, before anything has begun.

use std::{fs, path::PathBuf, time::Duration};

use hypercore_fixtures::{skip_without_machines, skip_without_root, wait_until};
use nix::mount::{MsFlags, mount, umount};

use super::{count, said, wait_for_count};
use crate::node::{Node, free_address};

/// Checks that a command is refused like this, with something to do about it.
#[track_caller]
fn refused(node: &Node, arguments: &[&str], exit: i32, code: &str) {
    let ended = node.run(&[arguments, &["--json"]].concat()).expect(exit);
    let told: serde_json::Value = serde_json::from_str(ended.stderr.trim()).unwrap();
    assert_eq!(told["code"], code, "{arguments:?}: {told:#}");
    assert!(told["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{arguments:?}: {told:#}");
}

#[test]
fn snapshots_are_not_for_containers() {
    if skip_without_root("snapshots_are_not_for_containers") {
        return;
    }
    let node = Node::start();
    node.detach(&["--name", "job", "busybox", "--", "sleep", "1000"]);
    refused(&node, &["snapshot", "job", "ready"], 6, "not_for_containers");
    refused(&node, &["fork", "job", "-n", "2"], 6, "not_for_containers");
    refused(&node, &["snapshot", "nobody", "ready"], 3, "workload_not_found");
    refused(&node, &["restore", "nothing"], 3, "snapshot_not_found");
    refused(&node, &["snapshots", "rm", "nothing"], 3, "snapshot_not_found");
    assert_eq!(node.run(&["snapshots", "ls", "--json"]).expect(0).stdout, "[]\n");
    node.finish();
}

#[test]
fn what_can_not_be_kept_is_refused_and_runs_on() {
    if skip_without_machines("what_can_not_be_kept_is_refused_and_runs_on") {
        return;
    }
    let node = Node::start();
    let taken = free_address();
    let publish = format!("{}:80", taken.port());
    count(&node, "counter", &["-p", &publish, "--memory", &memory_of_a_32nd()]);
    refused(&node, &["snapshot", "counter", "fork-mine"], 2, "invalid_snapshot_name");
    node.run(&["pause", "counter"]).expect(0);
    refused(&node, &["snapshot", "counter", "ready"], 6, "paused");
    refused(&node, &["fork", "counter"], 6, "paused");
    node.run(&["resume", "counter"]).expect(0);
    node.run(&["snapshot", "counter", "ready"]).expect(0);
    refused(&node, &["snapshot", "counter", "ready"], 6, "snapshot_exists");
    // The one that it was made of has the port, and the name.
    refused(&node, &["restore", "ready"], 6, "port_taken");
    refused(&node, &["restore", "ready", "--no-ports", "--name", "counter"], 6, "name_taken");
    assert_eq!(
        node.run(&["ps", "-aq"]).expect(0).stdout.lines().count(),
        1,
        "what was refused left something"
    );

    beyond_memory(&node);
    let now = *said(&node, "counter").last().unwrap();
    wait_for_count(&node, "counter", now + 2);

    node.run(&["stop", "-t", "1", "counter"]).expect(0);
    refused(&node, &["snapshot", "counter", "late"], 6, "not_running");
    refused(&node, &["fork", "counter"], 6, "not_running");
    node.run(&["snapshots", "rm", "ready"]).expect(0);
    node.finish();
}

/// Clones are counted before the first begins, and there is not memory for so many.
fn beyond_memory(node: &Node) {
    refused(node, &["fork", "counter", "-n", "64"], 4, "no_memory");
    let left: Vec<_> = fs::read_dir(node.path("data/snapshots")).unwrap().flatten().collect();
    assert_eq!(left.len(), 2, "a refused fork left something: {left:?}");
    assert_eq!(node.run(&["ps", "-aq"]).expect(0).stdout.lines().count(), 1);
}

/// A limit that 64 machines can't have at once on this host, and one can.
fn memory_of_a_32nd() -> String {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap();
    let total_kib: u64 = total.trim().trim_end_matches("kB").trim().parse().unwrap();
    format!("{}MiB", (total_kib / 1024 / 32).max(128))
}

#[test]
fn what_no_snapshot_can_hold_is_refused_by_name() {
    if skip_without_machines("what_no_snapshot_can_hold_is_refused_by_name") {
        return;
    }
    let node = Node::start();
    count(&node, "keeper", &["-v", "kept:/data"]);
    refused(&node, &["snapshot", "keeper", "ready"], 6, "snapshot_refused");
    refused(&node, &["fork", "keeper"], 6, "snapshot_refused");
    let told = node.run(&["snapshot", "keeper", "ready"]).stderr;
    assert!(told.contains("a volume"), "{told}");
    node.run(&["rm", "-f", "keeper"]).expect(0);
    node.run(&["volume", "rm", "kept"]).expect(0);
    node.finish();
}

/// A disk too small for any snapshot, where the node keeps its snapshots. Declared after the node, so that it goes first.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn over(path: PathBuf) -> Self {
        mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::MS_NODEV, Some("size=4m,mode=0700")).unwrap();
        Self(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = wait_until(Duration::from_secs(10), || umount(&self.0).ok());
    }
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    if skip_without_machines("a_full_disk_is_told_and_leaves_nothing") {
        return;
    }
    let node = Node::start();
    count(&node, "counter", &[]);
    let disk = SmallDisk::over(node.path("data/snapshots"));
    refused(&node, &["snapshot", "counter", "ready"], 4, "disk_full");
    refused(&node, &["fork", "counter"], 4, "disk_full");
    let left: Vec<_> = fs::read_dir(&disk.0).unwrap().flatten().collect();
    assert!(left.is_empty(), "left on the full disk: {left:?}");
    let now = *said(&node, "counter").last().unwrap();
    wait_for_count(&node, "counter", now + 3);
    drop(disk);
    node.run(&["snapshot", "counter", "ready"]).expect(0);
    node.run(&["snapshots", "rm", "ready"]).expect(0);
    node.finish();
}
