//! Pausing, and what can and can't be done with what is paused.

use hypercore_fixtures::{skip_without_root, wait_until};

use crate::node::Node;

const SOON: std::time::Duration = std::time::Duration::from_secs(30);

/// Counts into its log, for as long as it runs.
const COUNT: &str = "trap 'echo bye; exit 0' TERM; i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done";

fn lines(node: &Node) -> usize {
    node.run(&["logs", "job"]).expect(0).stdout.lines().count()
}

fn counting() -> Node {
    let node = Node::start();
    node.detach(&["--name", "job", "busybox", "--", "sh", "-c", COUNT]);
    wait_until(SOON, || (lines(&node) > 2).then_some(())).unwrap();
    node
}

#[test]
fn what_is_paused_stands_still_and_goes_on_where_it_was() {
    if skip_without_root("what_is_paused_stands_still_and_goes_on_where_it_was") {
        return;
    }
    let node = counting();
    assert_eq!(node.run(&["pause", "job"]).expect(0).stdout, "job\n");
    assert_eq!(node.run(&["ps", "--json"]).expect(0).json()[0]["status"], "paused");
    let frozen = lines(&node);
    // Each of these takes longer than the pause between two lines.
    let ended = node.run(&["exec", "job", "--", "true"]).expect(125);
    assert!(ended.stderr.contains("is paused") && ended.stderr.contains("hypercore resume"), "{ended:?}");
    node.run(&["attach", "job"]).expect(6);
    node.run(&["pause", "job"]).expect(6);
    assert_eq!(lines(&node), frozen);
    node.run(&["resume", "job"]).expect(0);
    node.wait_for_status("job", "running");
    wait_until(SOON, || (lines(&node) > frozen).then_some(())).expect("it went on");
    node.run(&["resume", "job"]).expect(6);
    node.finish();
}

#[test]
fn what_is_paused_can_be_stopped_killed_and_removed() {
    if skip_without_root("what_is_paused_can_be_stopped_killed_and_removed") {
        return;
    }
    let node = counting();
    node.run(&["pause", "job"]).expect(0);
    node.run(&["stop", "job"]).expect(0);
    assert!(node.run(&["logs", "job"]).expect(0).stdout.ends_with("bye\n"), "it had time to end by itself");
    node.run(&["pause", "job"]).expect(6);
    node.run(&["rm", "job"]).expect(0);
    for end in [&["kill", "job"][..], &["rm", "-f", "job"]] {
        node.detach(&["--name", "job", "busybox", "--", "sh", "-c", COUNT]);
        node.run(&["pause", "job"]).expect(0);
        node.run(end).expect(0);
        if end[0] == "kill" {
            node.run(&["wait", "job"]).expect(137);
            node.run(&["rm", "job"]).expect(0);
        }
    }
    node.finish();
}

#[test]
fn an_agent_that_starts_again_finds_it_paused() {
    if skip_without_root("an_agent_that_starts_again_finds_it_paused") {
        return;
    }
    let mut node = counting();
    node.run(&["pause", "job"]).expect(0);
    node.kill_agent();
    node.start_agent();
    node.wait_for_status("job", "paused");
    node.run(&["resume", "job"]).expect(0);
    assert_eq!(node.run(&["stop", "job"]).expect(0).stdout, "job\n");
    node.finish();
}
