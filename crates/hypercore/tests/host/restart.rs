//! An agent's death is not a workload's death: kill -9, and everything is under control again afterwards.

use std::{collections::BTreeSet, path::Path, sync::mpsc, thread};

use crate::{
    node::Node,
    program::{finish, until},
};
use hypercore_fixtures::skip_without_root;

#[test]
fn workloads_live_on_without_their_agent_and_are_adopted_by_the_next() {
    if skip_without_root("workloads_live_on_without_their_agent_and_are_adopted_by_the_next") {
        return;
    }
    let mut node = Node::start();
    let script = "echo up; while [ ! -e /go ]; do sleep 0.05; done; echo going; exit 9";
    node.detach(&["--name", "stays", "busybox", "--", "sh", "-c", script]);
    node.detach(&["--name", "ends", "busybox", "--", "sh", "-c", "echo short; sleep 0.5; exit 4"]);
    let (pid, ends_pid) = (node.inspect("stays")["pid"].clone(), node.inspect("ends")["pid"].clone());

    node.kill_agent();
    node.run(&["ps"]).expect(5);
    // The other workload ends while nobody watches.
    let is_over = || (!Path::new(&format!("/proc/{ends_pid}")).exists()).then_some(());
    assert!(until(is_over).is_some(), "the workload that should end goes on");
    assert!(Path::new(&format!("/proc/{pid}")).exists(), "the workload died with its agent");
    node.start_agent();

    node.wait_for_status("ends", "stopped");
    assert_eq!(node.run(&["wait", "ends"]).expect(4).stdout, "4\n");
    assert_eq!(node.run(&["logs", "ends"]).expect(0).stdout, "short\n");
    let stays = node.inspect("stays");
    assert_eq!((&stays["status"], &stays["pid"]), (&"running".into(), &pid));
    node.run(&["exec", "stays", "touch", "/go"]).expect(0);
    node.run(&["wait", "stays"]).expect(9);
    assert_eq!(node.run(&["logs", "stays"]).expect(0).stdout, "up\ngoing\n");
    node.finish();
}

#[test]
fn a_clean_restart_keeps_workloads_running_too() {
    if skip_without_root("a_clean_restart_keeps_workloads_running_too") {
        return;
    }
    let mut node = Node::start();
    node.detach(&["--name", "stays", "busybox", "--", "sleep", "1000"]);
    let pid = node.inspect("stays")["pid"].clone();
    assert_eq!(node.stop_agent(), Some(0));
    node.start_agent();
    let stays = node.inspect("stays");
    assert_eq!((&stays["status"], &stays["pid"]), (&"running".into(), &pid));
    node.run(&["stop", "-t", "0", "stays"]).expect(0);
    node.finish();
}

#[test]
fn every_acknowledged_command_survives_kill_9_in_the_midst_of_others() {
    if skip_without_root("every_acknowledged_command_survives_kill_9_in_the_midst_of_others") {
        return;
    }
    let mut node = Node::start();
    let mut acknowledged = BTreeSet::new();
    for round in 1..=3 {
        acknowledged.extend(spawn_until_killed(&mut node, round));
        node.start_agent();
        let listed = node.run(&["ps", "-aq"]).expect(0).stdout;
        let listed: BTreeSet<_> = listed.lines().map(str::to_owned).collect();
        assert!(
            listed.is_superset(&acknowledged),
            "lost in round {round}: {:?}",
            acknowledged.difference(&listed)
        );
        for id in &acknowledged {
            node.wait_for_status(id, "running");
        }
        let gone = acknowledged.pop_first().unwrap();
        node.run(&["rm", "-f", &gone]).expect(0);
    }
    node.finish();
}

/// Two callers make workloads one after the other; after so many acknowledgements the agent is killed under them.
/// Answers the ids that were acknowledged.
fn spawn_until_killed(node: &mut Node, count: usize) -> Vec<String> {
    let (acknowledge, acknowledgements) = mpsc::channel();
    let callers: Vec<_> = (0..2)
        .map(|_| {
            let mut command = node.command(&["run", "-d", "busybox", "--", "sleep", "1000"]);
            let acknowledge = acknowledge.clone();
            thread::spawn(move || {
                loop {
                    let ended = finish(&mut command, b"");
                    if ended.code != Some(0) {
                        return;
                    }
                    acknowledge.send(ended.stdout.trim().to_owned()).unwrap();
                }
            })
        })
        .collect();
    drop(acknowledge);
    let mut ids: Vec<_> = acknowledgements.iter().take(count).collect();
    node.kill_agent();
    callers.into_iter().for_each(|caller| caller.join().unwrap());
    ids.extend(acknowledgements);
    ids
}
