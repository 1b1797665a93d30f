//! What bounds a workload's stay: its time to live, the room on its node, and how long is known of it afterwards.

use std::time::Duration;

use hypercore_api::{ApiError, Client, client::Proof, v1};
use hypercore_fixtures::{skip_without_root, wait_until};

use crate::node::Node;

const TIME_MAX: Duration = Duration::from_secs(30);

#[test]
fn a_time_to_live_ends_a_workload_also_while_the_agent_was_away() {
    if skip_without_root("a_time_to_live_ends_a_workload_also_while_the_agent_was_away") {
        return;
    }
    let mut node = Node::start();
    let run = ["--restart", "always", "busybox", "--", "sh", "-c", "trap 'exit 9' TERM; sleep 1000 & wait"];
    node.detach(&[&["--name", "short", "--ttl", "1s"], run.as_slice()].concat());
    node.detach(&[&["--name", "away", "--ttl", "4s"], run.as_slice()].concat());
    node.detach(&[&["--name", "long", "--ttl", "1h"], run.as_slice()].concat());
    node.wait_for_status("short", "stopped");
    let short = node.inspect("short");
    assert_eq!((&short["exit_code"], &short["restarts"]), (&9.into(), &0.into()), "{short:#}");
    assert_eq!(short["reason"], "its time to live of 1s is over", "{short:#}");
    let created = std::time::Instant::now();
    node.kill_agent();
    // The time passes while nobody counts.
    wait_until(TIME_MAX, || (created.elapsed() > Duration::from_secs(4)).then_some(()));
    node.start_agent();
    node.wait_for_status("away", "stopped");
    assert_eq!(node.inspect("away")["reason_code"], "ttl_over");
    assert_eq!(node.inspect("short")["reason_code"], "ttl_over", "it is not known any more why");
    assert_eq!(node.inspect("long")["status"], "running");
    node.finish();
}

#[test]
fn what_does_not_fit_is_refused_and_ends_make_room() {
    if skip_without_root("what_does_not_fit_is_refused_and_ends_make_room") {
        return;
    }
    let node = Node::start();
    let cpus = std::thread::available_parallelism().unwrap().to_string();
    node.detach(&["--name", "all", "--cpu", &cpus, "busybox", "--", "sleep", "1000"]);
    let refused = node.run(&["run", "-d", "--cpu", "0.5", "busybox", "--", "true"]);
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(refused.stderr.contains("0 of") && refused.stderr.contains("hint: "), "{refused:?}");
    node.run(&["run", "--rm", "busybox", "--", "true"]).expect(0);
    assert_eq!(tried(&node, 500).unwrap_err().code, "no_room");
    assert_eq!(tried(&node, 0).unwrap(), "");
    let doctor = node.run(&["doctor", "--json"]).json();
    let agent = doctor.as_array().unwrap().iter().find(|finding| finding["check"] == "agent").unwrap();
    let shown = format!("workloads reserve {cpus} of {cpus} CPUs");
    assert!(agent["message"].as_str().unwrap().contains(&shown), "{agent:#}");
    node.run(&["stop", "-t", "0", "all"]).expect(0);
    assert_eq!(tried(&node, 500).unwrap(), "");
    let listed = node.run(&["ps", "-a", "--json"]).expect(0).json();
    assert_eq!(listed.as_array().unwrap().len(), 1, "a dry run leaves something: {listed:#}");
    // Each begins in the moment after the one before has ended.
    for code in 0..5 {
        let script = format!("exit {code}");
        node.run(&["run", "--cpu", &cpus, "busybox", "--", "sh", "-c", &script]).expect(code);
    }
    node.finish();
}

/// What the API answers to a dry run with so many thousandths of a CPU.
fn tried(node: &Node, cpu_millis: u32) -> Result<String, ApiError> {
    let endpoint = format!("unix:{}", node.path("run/api.sock").display()).parse().unwrap();
    let request =
        v1::VmSpawnRequest { image_ref: "busybox".into(), cpu_millis, dry_run: true, ..Default::default() };
    let asked = async {
        let client = Client::connect(&endpoint, Proof::default()).await.unwrap();
        client.spawn(request).await.map(|answer| answer.id)
    };
    tokio::runtime::Runtime::new().unwrap().block_on(asked)
}

#[test]
fn what_was_removed_is_known_for_a_while() {
    if skip_without_root("what_was_removed_is_known_for_a_while") {
        return;
    }
    let mut node = Node::prepare();
    node.set("HYPERCORE_RUNTIME_RECORDS_KEEP", "3s");
    node.start_agent();
    node.import_busybox();
    let id = node.detach(&["--name", "job", "busybox", "--", "sh", "-c", "echo said; exit 6"]);
    node.run(&["wait", &id]).expect(6);
    node.run(&["rm", "job"]).expect(0);
    assert_eq!(node.run(&["logs", &id[..12]]).expect(0).stdout, "said\n");
    let gone = node.inspect(&id);
    assert_eq!((&gone["name"], &gone["exit_code"]), (&"job".into(), &6.into()), "{gone:#}");
    assert!(gone["image_digest"].as_str().is_some_and(|digest| digest.starts_with("sha256:")), "{gone:#}");
    let is_forgotten = || (node.run(&["inspect", &id]).code == Some(3)).then_some(());
    assert!(wait_until(TIME_MAX, is_forgotten).is_some(), "it is kept for longer than was asked for");
    node.run(&["logs", &id]).expect(3);
    node.finish();
}
