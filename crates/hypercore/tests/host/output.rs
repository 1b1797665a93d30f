//! What an attached caller gets when it reads slowly, stops reading, or loses the agent.

use std::{io::Read as _, process::Stdio};

use hypercore_fixtures::skip_without_root;

use crate::{
    node::Node,
    program::{collect, until, wait},
};

#[test]
fn a_workload_whose_output_nobody_reads_any_more_is_ended() {
    if skip_without_root("a_workload_whose_output_nobody_reads_any_more_is_ended") {
        return;
    }
    let node = Node::start();
    // As in `hypercore run --rm busybox -- yes | head -1`.
    let mut run = node.command(&["run", "--rm", "busybox", "--", "yes"]);
    let mut child = run.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdout.take().unwrap().read_exact(&mut [0; 2]).unwrap();
    assert_eq!(wait(&mut child), Some(0));
    let is_gone = || (node.run(&["ps", "-aq"]).expect(0).stdout.is_empty()).then_some(());
    assert!(until(is_gone).is_some(), "{:?}", node.run(&["ps", "-a"]));
    node.finish();
}

#[test]
fn output_that_was_rotated_away_unread_is_not_taken_for_the_whole() {
    if skip_without_root("output_that_was_rotated_away_unread_is_not_taken_for_the_whole") {
        return;
    }
    let node = Node::start();
    // Zeros take six times their length in the log, which keeps 50 MiB.
    let mut run =
        node.command(&["run", "--name", "much", "busybox", "--", "head", "-c", "15000000", "/dev/zero"]);
    let child = run.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let is_there = || (node.run(&["inspect", "much"]).code == Some(0)).then_some(());
    assert!(until(is_there).is_some());
    // Nobody reads until all was written.
    node.wait_for_status("much", "stopped");
    let ended = collect(child).expect(125);
    assert!(ended.stdout.len() < 15_000_000, "nothing was lost");
    assert!(ended.stderr.contains("output was lost here"), "{}", ended.stderr);
    assert!(ended.stderr.contains("error: the workload has ended, but part of its output was lost"));
    node.run(&["rm", "much"]).expect(0);
    node.finish();
}

#[test]
fn an_attached_caller_is_told_that_the_agent_went_and_the_workload_runs_on() {
    if skip_without_root("an_attached_caller_is_told_that_the_agent_went_and_the_workload_runs_on") {
        return;
    }
    let mut node = Node::start();
    let mut run = node.command(&["run", "--name", "stays", "busybox", "--", "sleep", "1000"]);
    let child = run.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let runs = || node.run(&["logs", "stays"]).code == Some(0);
    assert!(until(|| runs().then_some(())).is_some());
    node.wait_for_status("stays", "running");
    node.kill_agent();
    let ended = collect(child).expect(125);
    assert!(ended.stderr.starts_with("error: the connection to the agent broke"), "{ended:?}");
    assert!(ended.stderr.contains("hint: the workload runs on: `hypercore attach "), "{ended:?}");
    node.start_agent();
    node.run(&["stop", "-t", "0", "stays"]).expect(0);
    node.finish();
}
