//! Workloads with `--userns` from the command line: who they are on the host, and whose their files are.

use std::{fs, os::unix::fs::MetadataExt, path::PathBuf};

use hypercore_fixtures::skip_without_root;

use crate::{
    node::Node,
    program::{Ended, finish},
};

fn in_scratch(node: &Node, arguments: &[&str]) -> Ended {
    finish(node.command(arguments).current_dir(node.path(".")), b"")
}

/// What the workload has written, on the host's disk.
fn upper(node: &Node, workload: &str) -> PathBuf {
    let id = node.inspect(workload)["id"].as_str().unwrap().to_owned();
    node.path("data").join("workloads").join(id).join("upper")
}

#[test]
fn executions_and_copies_meet_the_users_of_the_workload() {
    if skip_without_root("executions_and_copies_meet_the_users_of_the_workload") {
        return;
    }
    let node = Node::start();
    node.detach(&["--name", "box", "--userns", "busybox", "--", "sleep", "1000"]);
    let map =
        node.run(&["exec", "box", "--", "cat", "/proc/self/uid_map", "/proc/1/uid_map"]).expect(0).stdout;
    let lines: Vec<Vec<&str>> = map.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], lines[1]);
    assert_eq!((lines[0][0], lines[0][2]), ("0", "65536"), "{map}");
    let first: u32 = lines[0][1].parse().unwrap();
    assert_ne!(first, 0);
    // With another user, and with input.
    let whoami =
        ["exec", "--user", "1000:1000", "-w", "/tmp", "box", "--", "sh", "-c", "id -u; pwd; touch x"];
    assert_eq!(node.run(&whoami).expect(0).stdout, "1000\n/tmp\n");
    let upper = upper(&node, "box");
    assert_eq!(fs::metadata(upper.join("tmp/x")).unwrap().uid(), first + 1000);
    let echoed = finish(&mut node.command(&["exec", "-i", "box", "--", "cat"]), b"through");
    assert_eq!(echoed.expect(0).stdout, "through");
    assert_eq!(node.run(&["exec", "box", "--", "sh", "-c", "exit 7"]).code, Some(7));
    node.run(&["exec", "box", "--", "no-such-program"]).expect(127);
    // Into it while it runs, and when it has ended.
    fs::write(node.path("file"), "copied").unwrap();
    in_scratch(&node, &["cp", "file", "box:/tmp/running"]).expect(0);
    node.run(&["stop", "box"]).expect(0);
    in_scratch(&node, &["cp", "file", "box:/tmp/stopped"]).expect(0);
    for name in ["running", "stopped"] {
        assert_eq!(fs::metadata(upper.join("tmp").join(name)).unwrap().uid(), first, "{name}");
    }
    in_scratch(&node, &["cp", "box:/tmp/stopped", "back"]).expect(0);
    assert_eq!(fs::read_to_string(node.path("back")).unwrap(), "copied");
    node.finish();
}
