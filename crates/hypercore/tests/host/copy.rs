//! `cp` with containers that have ended: their files are still there. What `cp` does with those that run is in
//! `behaviour::files`, for containers and microVMs alike.

use std::fs;

use hypercore_fixtures::skip_without_root;

use crate::{
    node::Node,
    program::{Ended, finish},
};

fn in_scratch(node: &Node, arguments: &[&str], input: &[u8]) -> Ended {
    finish(node.command(arguments).current_dir(node.path(".")), input)
}

#[test]
fn a_workload_that_has_ended_still_has_its_files() {
    if skip_without_root("a_workload_that_has_ended_still_has_its_files") {
        return;
    }
    let node = Node::start();
    node.detach(&["--name", "job", "busybox", "--", "sh", "-c", "echo result > /tmp/result"]);
    node.run(&["wait", "job"]).expect(0);
    in_scratch(&node, &["cp", "job:/tmp/result", "."], b"").expect(0);
    assert_eq!(fs::read_to_string(node.path("result")).unwrap(), "result\n");
    fs::write(node.path("more"), "more").unwrap();
    in_scratch(&node, &["cp", "more", "job:/tmp/"], b"").expect(0);
    in_scratch(&node, &["cp", "job:/tmp/more", "again"], b"").expect(0);
    assert_eq!(fs::read_to_string(node.path("again")).unwrap(), "more");
    // The root was mounted for the copy alone.
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(node.path("data").to_str().unwrap()), "{mounts}");
    node.finish();
}
