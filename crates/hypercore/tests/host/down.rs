//! `hypercore down`: what it ends and takes away, what it keeps, and when it won't.

use hypercore_fixtures::skip_without_root;

use crate::{
    node::{Node, free_address},
    program::{Ended, finish},
};

/// `hypercore down` for this node.
fn down(node: &Node) -> Ended {
    let mut command = node.command(&["down"]);
    command.env("HYPERCORE_NODE_DATA_DIRECTORY", node.path("data"));
    command.env("HYPERCORE_NODE_RUNTIME_DIRECTORY", node.path("run"));
    command.env("HYPERCORE_RUNTIME_BRIDGE", &node.bridge).env("HYPERCORE_RUNTIME_CIDR", &node.cidr);
    finish(&mut command, b"")
}

#[test]
fn down_ends_every_workload_of_a_stopped_node_and_keeps_what_it_has() {
    if skip_without_root("down_ends_every_workload_of_a_stopped_node_and_keeps_what_it_has") {
        return;
    }
    let mut node = Node::start();
    let publish = format!("{}:80", free_address().port());
    node.detach(&["--name", "web", "-p", &publish, "busybox", "--", "sh", "-c", "echo hello; sleep 1000"]);
    node.detach(&["--name", "again", "--restart", "always", "busybox", "--", "sleep", "1000"]);
    node.detach(&["--name", "held", "busybox", "--", "sleep", "1000"]);
    node.run(&["pause", "held"]).expect(0);

    let refused = down(&node).expect(6);
    assert!(refused.stderr.contains("systemctl stop hypercore"), "{refused:?}");
    assert_eq!(node.inspect("web")["status"], "running", "a refused one ended a workload");

    // Killed: nothing of the agent's own end helps.
    node.kill_agent();
    let ended = down(&node).expect(0);
    assert!(ended.stdout.is_empty(), "{ended:?}");
    node.assert_nothing_left();
    down(&node).expect(0);

    node.start_agent();
    for name in ["web", "held"] {
        assert_ne!(node.inspect(name)["status"], "running", "{name}");
    }
    // What shall always run does so again: the node was taken down, not the wish.
    node.wait_for_status("again", "running");
    assert_eq!(node.run(&["logs", "web"]).expect(0).stdout, "hello\n");
    node.run(&["run", "--rm", "busybox", "--", "true"]).expect(0);
    node.finish();
}

#[test]
fn down_of_a_node_that_never_was_is_fine() {
    if skip_without_root("down_of_a_node_that_never_was_is_fine") {
        return;
    }
    let node = Node::prepare();
    down(&node).expect(0);
    assert!(!node.path("data").exists() && !node.path("run").exists(), "it made what it should take away");
}
