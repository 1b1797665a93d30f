//! An agent's death is not a workload's death: kill -9, and everything is under control again afterwards.

use hypercore_fixtures::skip_without_root;

use crate::node::Node;

#[test]
fn workloads_live_on_without_their_agent_and_are_adopted_by_the_next() {
    if skip_without_root("workloads_live_on_without_their_agent_and_are_adopted_by_the_next") {
        return;
    }
    let mut node = Node::start();
    let script = "echo up; while [ ! -e /go ]; do sleep 0.05; done; echo going; exit 9";
    node.detach(&["--name", "stays", "busybox", "--", "sh", "-c", script]);
    node.detach(&["--name", "ends", "busybox", "--", "sh", "-c", "echo short; sleep 0.3; exit 4"]);
    let pid = node.inspect("stays")["pid"].clone();

    node.kill_agent();
    // The other workload ends while nobody watches.
    node.run(&["ps"]).expect(5);
    let ends_pid_gone = || {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        text.is_ok().then_some(())
    };
    assert!(ends_pid_gone().is_some(), "the workload died with its agent");
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
fn every_acknowledged_command_survives_kill_9() {
    if skip_without_root("every_acknowledged_command_survives_kill_9") {
        return;
    }
    let mut node = Node::start();
    let mut acknowledged = Vec::new();
    for round in 0..5 {
        acknowledged.push(node.detach(&[
            "--name",
            &format!("job-{round}"),
            "busybox",
            "--",
            "sleep",
            "1000",
        ]));
        if round % 2 == 1 {
            node.run(&["rm", "-f", &acknowledged.remove(0)]).expect(0);
        }
        node.kill_agent();
        node.start_agent();
        let mut listed: Vec<_> =
            node.run(&["ps", "-q"]).expect(0).stdout.lines().map(str::to_owned).collect();
        let mut expected = acknowledged.clone();
        listed.sort();
        expected.sort();
        assert_eq!(listed, expected, "round {round}");
    }
    node.finish();
}
