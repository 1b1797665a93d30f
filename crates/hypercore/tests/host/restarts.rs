//! Workloads that end and are started again, by their policy: however they end, and whatever becomes of the agent
//! meanwhile.

use std::{thread, time::Duration};

use hypercore_fixtures::{ImageBuilder, skip_without_root, wait_until};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    node::Node,
    program::{finish, until},
};

/// Longest wait for a workload to come to what the test waits for.
const TIME_MAX: Duration = Duration::from_secs(60);

/// How many lines of the log are this one.
fn count(node: &Node, workload: &str, line: &str) -> usize {
    node.run(&["logs", workload]).expect(0).stdout.lines().filter(|said| *said == line).count()
}

/// Waits until `inspect` shows what is asked for.
#[track_caller]
fn wait_for(node: &Node, workload: &str, is_there: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
    let seen = wait_until(TIME_MAX, || Some(node.inspect(workload)).filter(|shown| is_there(shown)));
    seen.unwrap_or_else(|| panic!("{:#}\n{}", node.inspect(workload), node.agent_log()))
}

#[test]
fn what_fails_is_tried_again_so_often_and_keeps_its_files_address_and_log() {
    if skip_without_root("what_fails_is_tried_again_so_often_and_keeps_its_files_address_and_log") {
        return;
    }
    let node = Node::start();
    let script = "echo run; echo x >> /count; [ $(wc -l < /count) -lt 3 ] && exit 7; hostname -i; exit 3";
    node.detach(&[
        "--name",
        "job",
        "--restart",
        "on-failure:2",
        "-p",
        "80",
        "busybox",
        "--",
        "sh",
        "-c",
        script,
    ]);
    // Attached to the log, one sees every run.
    let logs = finish(&mut node.command(&["logs", "-f", "job"]), b"").expect(0);
    let job = wait_for(&node, "job", |job| job["status"] == "stopped");
    assert_eq!((&job["exit_code"], &job["restarts"]), (&3.into(), &2.into()), "{job:#}");
    assert_eq!(count(&node, "job", "run"), 3, "the files it wrote are gone");
    assert_eq!(logs.stdout.lines().filter(|line| *line == "run").count(), 3, "{logs:?}");
    let listed = node.run(&["ps", "-a", "--json"]).expect(0).json();
    assert_eq!(listed[0]["restarts"], 2);
    let events = node.run(&["events", "--since", "1h", "--until", "0s", "--json"]);
    let restarted = events.stdout.matches("restarted").count();
    assert_eq!(restarted, 2, "{events:?}");
    node.finish();
}

#[test]
fn a_stop_ends_the_pause_and_the_last_exit_is_kept() {
    if skip_without_root("a_stop_ends_the_pause_and_the_last_exit_is_kept") {
        return;
    }
    let mut node = Node::start();
    node.detach(&["--name", "loop", "--restart", "always", "busybox", "--", "sh", "-c", "exit 4"]);
    // Late enough for a pause that one can see.
    let waiting = wait_for(&node, "loop", |shown| {
        shown["status"] == "pending" && shown["restarts"].as_u64() >= Some(5)
    });
    let reason = waiting["reason"].as_str().unwrap();
    assert!(reason.starts_with("restarting in ") && reason.ends_with(" s after exit code 4"), "{reason}");
    // The pause goes on under another agent, which counts on.
    node.kill_agent();
    node.start_agent();
    let again = wait_for(&node, "loop", |shown| shown["status"] == "pending");
    assert!(again["restarts"].as_u64() >= waiting["restarts"].as_u64(), "{again:#}");
    node.run(&["stop", "loop"]).expect(0);
    let stopped = node.inspect("loop");
    assert_eq!((&stopped["status"], &stopped["exit_code"]), (&"stopped".into(), &4.into()), "{stopped:#}");
    node.kill_agent();
    node.start_agent();
    assert_eq!(node.inspect("loop")["status"], "stopped");
    assert_eq!(node.inspect("loop")["restarts"], stopped["restarts"]);
    node.finish();
}

#[test]
fn no_end_is_counted_twice_or_missed_when_the_agent_is_killed_in_between() {
    if skip_without_root("no_end_is_counted_twice_or_missed_when_the_agent_is_killed_in_between") {
        return;
    }
    const RESTARTS: u32 = 7;
    let mut node = Node::start();
    let policy = format!("on-failure:{RESTARTS}");
    for name in ["one", "two", "three"] {
        let script = "echo run; exit 1";
        node.detach(&["--name", name, "--restart", &policy, "busybox", "--", "sh", "-c", script]);
    }
    // Different moments of the runs and pauses, which double from 100 ms on.
    let is_over =
        |node: &Node| ["one", "two", "three"].iter().all(|name| node.inspect(name)["status"] == "stopped");
    for round in 0..20u64 {
        if is_over(&node) {
            break;
        }
        thread::sleep(Duration::from_millis(37 * round % 211));
        node.kill_agent();
        node.start_agent();
    }
    for name in ["one", "two", "three"] {
        let shown = wait_for(&node, name, |shown| shown["status"] == "stopped");
        assert_eq!(shown["restarts"], RESTARTS, "{shown:#}");
        assert_eq!(count(&node, name, "run"), RESTARTS as usize + 1, "{name}: {}", node.agent_log());
    }
    node.finish();
}

#[test]
fn a_killed_shim_loses_its_workload_and_the_policy_brings_it_back() {
    if skip_without_root("a_killed_shim_loses_its_workload_and_the_policy_brings_it_back") {
        return;
    }
    let node = Node::start();
    for (name, policy) in [("plain", "no"), ("back", "always")] {
        node.detach(&["--name", name, "--restart", policy, "busybox", "--", "sh", "-c", "sleep 1000 & wait"]);
    }
    for name in ["plain", "back"] {
        node.wait_for_status(name, "running");
        let pid = node.inspect(name)["pid"].as_i64().unwrap();
        kill(Pid::from_raw(shim_of(pid)), Signal::SIGKILL).unwrap();
        let is_gone = || (!std::path::Path::new(&format!("/proc/{pid}")).exists()).then_some(());
        assert!(until(is_gone).is_some(), "the processes of {name} live on without their shim");
    }
    node.wait_for_status("plain", "lost");
    assert_eq!(node.inspect("plain")["reason_code"], "shim_vanished", "{:#}", node.inspect("plain"));
    let back = wait_for(&node, "back", |shown| shown["status"] == "running" && shown["restarts"] == 1);
    assert!(back["pid"].as_i64().is_some());
    node.finish();
}

/// The process that a workload's first process is a child of.
fn shim_of(pid: i64) -> i32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
    parent.trim().parse().unwrap()
}

#[test]
fn attached_one_sees_the_first_run_as_with_docker() {
    if skip_without_root("attached_one_sees_the_first_run_as_with_docker") {
        return;
    }
    let node = Node::start();
    let script = "echo run; sleep 0.3; exit 5";
    let ended =
        node.run(&["run", "--name", "job", "--restart", "always", "busybox", "--", "sh", "-c", script]);
    let ended = ended.expect(5);
    assert_eq!(ended.stdout, "run\n");
    wait_for(&node, "job", |shown| shown["restarts"].as_u64() >= Some(1));
    node.finish();
}

#[test]
fn a_run_is_made_of_what_the_first_was_also_when_the_tag_has_moved() {
    if skip_without_root("a_run_is_made_of_what_the_first_was_also_when_the_tag_has_moved") {
        return;
    }
    let node = Node::start();
    let script = "cat /mark 2>/dev/null || echo first; sleep 0.2; exit 1";
    node.detach(&["--name", "job", "--restart", "on-failure:4", "busybox", "--", "sh", "-c", script]);
    let archive = node.path("moved.tar");
    let moved = ImageBuilder::busybox().unwrap().file("mark", "second\n").build();
    moved.write_archive(&archive, "busybox").unwrap();
    node.run(&["image", "import", archive.to_str().unwrap(), "--as", "busybox"]).expect(0);
    node.run(&["image", "prune", "--all"]).expect(0);
    wait_for(&node, "job", |shown| shown["status"] == "stopped");
    assert_eq!(count(&node, "job", "first"), 5, "{:?}", node.run(&["logs", "job"]));
    assert_eq!(node.run(&["run", "--rm", "busybox", "--", "cat", "/mark"]).expect(0).stdout, "second\n");
    node.finish();
}
