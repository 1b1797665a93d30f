//! The agent's end, while a snapshot is made and afterwards: nothing half made is left, and machines that were restored are
//! taken up again as any other.

use std::{fs, process::Command, thread};

use hypercore_fixtures::{skip_without_machines, wait_until};

use super::{SOON, count, inside, said, wait_for_count};
use crate::node::Node;

#[test]
fn an_agent_that_is_killed_leaves_no_half_of_a_snapshot() {
    if skip_without_machines("an_agent_that_is_killed_leaves_no_half_of_a_snapshot") {
        return;
    }
    let mut node = Node::start();
    count(&node, "counter", &[]);
    let directory = node.path("data/snapshots");
    let is_begun = || {
        let names = fs::read_dir(&directory).unwrap().flatten().map(|entry| entry.file_name());
        names.into_iter().any(|name| name.to_string_lossy().ends_with(".new")).then_some(())
    };
    let mut asking = node.command(&["snapshot", "counter", "half"]);
    let asked = thread::spawn(move || asking.output().unwrap());
    assert!(wait_until(SOON, is_begun).is_some(), "no snapshot was begun");
    node.kill_agent();
    assert_ne!(asked.join().unwrap().status.code(), Some(0));
    node.start_agent();
    assert!(
        is_begun().is_none(),
        "a half is left: {:?}",
        fs::read_dir(&directory).unwrap().collect::<Vec<_>>()
    );
    assert_eq!(node.run(&["snapshots", "ls", "-q"]).expect(0).stdout, "");
    let now = *said(&node, "counter").last().unwrap();
    wait_for_count(&node, "counter", now + 3);
    // The name is free, and the machine can be kept as before: as soon as it has done with what nobody wants any more.
    let made = || (node.run(&["snapshot", "counter", "half"]).code == Some(0)).then_some(());
    assert!(wait_until(SOON, made).is_some(), "{}", node.agent_log());
    node.run(&["snapshots", "rm", "half"]).expect(0);
    node.finish();
}

#[test]
fn restored_machines_outlive_the_agent() {
    if skip_without_machines("restored_machines_outlive_the_agent") {
        return;
    }
    let mut node = Node::start();
    count(&node, "counter", &[]);
    node.run(&["snapshot", "counter", "ready"]).expect(0);
    node.run(&["restore", "ready", "--name", "second"]).expect(0);
    let first = wait_for_count(&node, "second", 1)[0];
    let shown = node.inspect("second");
    node.kill_agent();
    // What a fork left whose clones nobody waits for any more.
    let left = node.path("data/snapshots/fork-0a1b");
    assert!(
        Command::new("cp")
            .arg("-r")
            .arg(node.path("data/snapshots/ready"))
            .arg(&left)
            .status()
            .unwrap()
            .success()
    );
    node.start_agent();
    let is_gone = || (!left.exists()).then_some(());
    assert!(wait_until(SOON, is_gone).is_some(), "a snapshot that no clone waits for stays");
    assert_eq!(node.run(&["snapshots", "ls", "-q"]).expect(0).stdout, "ready\n");
    let again = node.inspect("second");
    for field in ["id", "pid", "address", "status", "restarts"] {
        assert_eq!(shown[field], again[field], "{field}");
    }
    let counted = wait_for_count(&node, "second", first + 10);
    assert!(counted.windows(2).all(|pair| pair[1] == pair[0] + 1), "{counted:?}");
    assert_eq!(inside(&node, "second", "cat /kept"), "kept");
    // A snapshot made before can be used by the agent after.
    node.run(&["restore", "ready", "--name", "third"]).expect(0);
    wait_for_count(&node, "third", first + 1);
    node.run(&["rm", "-f", "second", "third"]).expect(0);
    node.run(&["snapshots", "rm", "ready"]).expect(0);
    node.finish();
}

#[test]
fn a_restore_that_was_cut_short_is_finished_or_told() {
    if skip_without_machines("a_restore_that_was_cut_short_is_finished_or_told") {
        return;
    }
    let mut node = Node::start();
    count(&node, "counter", &[]);
    node.run(&["snapshot", "counter", "ready"]).expect(0);
    let before = *said(&node, "counter").last().unwrap();
    node.run(&["rm", "-f", "counter"]).expect(0);
    let workloads = node.path("data/workloads");
    let is_lent = || {
        let lent = fs::read_dir(&workloads).unwrap().flatten().map(|entry| entry.path().join("resume/state"));
        lent.into_iter().any(|path| path.exists()).then_some(())
    };
    let mut asking = node.command(&["restore", "ready", "--name", "second"]);
    let asked = thread::spawn(move || asking.output().unwrap());
    assert!(wait_until(SOON, is_lent).is_some(), "nothing was lent");
    node.kill_agent();
    drop(asked.join().unwrap());
    node.start_agent();
    let settled = || {
        let status = node.inspect("second")["status"].as_str().unwrap().to_owned();
        ["running", "lost", "failed"].contains(&status.as_str()).then_some(status)
    };
    let status = wait_until(SOON, settled).expect("it is neither running nor at an end");
    if status == "running" {
        let counted = wait_for_count(&node, "second", before + 3);
        assert!(counted[0] > 1 && counted.windows(2).all(|pair| pair[1] == pair[0] + 1), "{counted:?}");
    }
    // Whatever became of it, the snapshot is whole.
    node.run(&["restore", "ready", "--name", "third"]).expect(0);
    wait_for_count(&node, "third", before + 1);
    node.run(&["snapshots", "rm", "ready"]).expect(0);
    node.finish();
}
