//! Machines that are kept and go on: as others on the same node, on another node, as clones, and across the agent's end.
//! What is refused is in `refused`.

mod agent;
mod elsewhere;
mod fork;
mod refused;
mod tenants;
mod terminal;

use std::{collections::BTreeSet, time::Duration};

use hypercore_fixtures::{skip_without_machines, wait_until};

use crate::node::Node;

/// A machine that is emulated takes seconds for everything, more when others run beside it.
const SOON: Duration = Duration::from_secs(90);
/// Counts in the memory of its first process and nowhere else.
const COUNTER: &str = "echo kept > /kept; i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done";

/// Starts a microVM that counts, and waits until it has.
#[track_caller]
fn count(node: &Node, name: &str, flags: &[&str]) {
    let arguments =
        [&["--isolation", "microvm", "--name", name], flags, &["busybox", "--", "sh", "-c", COUNTER]];
    node.detach(&arguments.concat());
    wait_for_count(node, name, 5);
}

/// The numbers that a workload has said, in order.
fn said(node: &Node, workload: &str) -> Vec<u64> {
    let logs = node.run(&["logs", workload]).expect(0).stdout;
    // The last line may still be written.
    let whole = logs.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| line.parse().unwrap_or_else(|_| panic!("{workload} said {line:?}"))).collect()
}

/// Waits until a workload has counted to at least this number; answers all it said.
#[track_caller]
fn wait_for_count(node: &Node, workload: &str, least: u64) -> Vec<u64> {
    let counted = || Some(said(node, workload)).filter(|said| said.last().is_some_and(|last| *last >= least));
    wait_until(SOON, counted).unwrap_or_else(|| {
        panic!("{workload} never came to {least}: {:?}\n{}", said(node, workload), node.agent_log())
    })
}

/// Checks that a workload goes on counting where a snapshot was made, after `before` and not far from there: each number
/// once, and none before that moment.
#[track_caller]
fn assert_goes_on(node: &Node, workload: &str, before: u64, latest: u64) {
    let first = wait_for_count(node, workload, 1)[0];
    assert!(
        first > before && first <= latest + 1,
        "{workload} went on at {first}, not in {before}..={latest}"
    );
    let said = wait_for_count(node, workload, first + 3);
    assert!(said.windows(2).all(|pair| pair[1] == pair[0] + 1), "{workload} said {said:?}");
}

/// What a command inside a workload says.
#[track_caller]
fn inside(node: &Node, workload: &str, script: &str) -> String {
    node.run(&["exec", workload, "sh", "-c", script]).expect(0).stdout.trim().to_owned()
}

/// The hardware address of a machine, and what its own kernel draws.
const IDENTITY: &str = "hostname; cat /sys/class/net/eth0/address; head -c 16 /dev/urandom | od -An -tx1";

/// What tells these workloads apart, of which each must have its own: id, address, hostname, hardware address, entropy.
#[track_caller]
fn assert_distinct(node: &Node, workloads: &[&str]) {
    let mut seen = BTreeSet::new();
    for workload in workloads {
        let shown = node.inspect(workload);
        let address = shown["address"].as_str().unwrap().to_owned();
        let told = inside(node, workload, IDENTITY);
        assert_eq!(told.lines().count(), 3, "{told}");
        let inner = inside(node, workload, "ip -o -4 address show dev eth0");
        assert!(inner.contains(&format!("{address}/")), "{workload} is not {address} inside: {inner}");
        let parts = told.lines().map(str::to_owned).chain([shown["id"].to_string(), address]);
        for part in parts {
            assert!(seen.insert(part.clone()), "{workload} shares {part}");
        }
    }
}

/// Checks what is said of the snapshot `ready` of `counter`.
#[track_caller]
fn assert_listed(node: &Node) {
    let listed = node.run(&["snapshots", "ls", "--verify", "--json"]).expect(0).json();
    let ready = &listed[0];
    assert_eq!(
        (&ready["name"], &ready["workload_name"], &ready["engine"], &ready["problem"]),
        (&"ready".into(), &"counter".into(), &"qemu".into(), &serde_json::Value::Null),
        "{listed:#}"
    );
    assert_eq!(ready["workload"], node.inspect("counter")["id"]);
    let (size, memory) = (ready["size_bytes"].as_u64().unwrap(), ready["memory_bytes"].as_u64().unwrap());
    assert!((1..memory).contains(&size), "the holes are counted: {size} of {memory}");
}

#[test]
fn a_machine_is_kept_and_goes_on_as_another() {
    if skip_without_machines("a_machine_is_kept_and_goes_on_as_another") {
        return;
    }
    let node = Node::start();
    count(&node, "counter", &[]);
    let before = *said(&node, "counter").last().unwrap();
    assert_eq!(node.run(&["snapshot", "counter", "ready"]).expect(0).stdout, "ready\n");
    let latest = *said(&node, "counter").last().unwrap();
    // It goes on itself.
    assert_eq!(node.inspect("counter")["status"], "running");
    let own = wait_for_count(&node, "counter", latest + 3);
    assert!(own.windows(2).all(|pair| pair[1] == pair[0] + 1), "it lost or repeated something: {own:?}");

    assert_listed(&node);
    let id = node.run(&["restore", "ready", "--name", "second"]).expect(0).stdout.trim().to_owned();
    assert_goes_on(&node, "second", before, latest);
    let second = node.inspect("second");
    assert_eq!((&second["id"], &second["snapshot"]), (&id.as_str().into(), &"ready".into()));
    assert_eq!(inside(&node, "second", "hostname"), "second");
    assert_eq!(inside(&node, "second", "cat /kept"), "kept");
    assert_distinct(&node, &["counter", "second"]);
    let host = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let guest: u64 = inside(&node, "second", "date +%s").parse().unwrap();
    assert!(guest.abs_diff(host) < 60, "its clock says {guest} at {host}");

    // What was restored needs the snapshot no more, and can be kept itself.
    node.run(&["snapshots", "rm", "ready"]).expect(0);
    let now = *said(&node, "second").last().unwrap();
    node.run(&["snapshot", "second", "again"]).expect(0);
    let latest = *said(&node, "second").last().unwrap();
    node.run(&["restore", "again", "--name", "third"]).expect(0);
    assert_goes_on(&node, "third", now, latest);
    node.run(&["stop", "-t", "1", "second"]).expect(0);
    node.run(&["rm", "-f", "third", "second", "counter"]).expect(0);

    let events = node.run(&["events", "--since", "1h", "--until", "0s", "--json"]).expect(0).stdout;
    for action in ["snapshotted", "restored"] {
        assert!(events.contains(action), "{action} is not in {events}");
    }
    node.run(&["snapshots", "rm", "again"]).expect(0);
    node.finish();
}

#[test]
fn a_restored_machine_boots_its_image_when_it_is_started_again() {
    if skip_without_machines("a_restored_machine_boots_its_image_when_it_is_started_again") {
        return;
    }
    let node = Node::start();
    // In its first run it waits for a sign; every run says how often it found the mark of another.
    let script =
        "echo x >> /runs; echo run $(wc -l < /runs); until [ -e /go ]; do sleep 0.1; done; rm /go; exit 3";
    node.detach(&[
        "--isolation",
        "microvm",
        "--name",
        "job",
        "--restart",
        "on-failure:1",
        "busybox",
        "--",
        "sh",
        "-c",
        script,
    ]);
    let has_said = |name: &str, text: &str| {
        let said = wait_until(SOON, || node.run(&["logs", name]).stdout.contains(text).then_some(()));
        assert!(said.is_some(), "{name} never said {text}: {}", node.run(&["logs", name]).stdout);
    };
    has_said("job", "run 1");
    node.run(&["snapshot", "job", "waiting"]).expect(0);
    node.run(&["rm", "-f", "job"]).expect(0);
    node.run(&["restore", "waiting", "--name", "job"]).expect(0);
    inside(&node, "job", "touch /go");
    // The second run has the disk of the first, began at its beginning, and needs nothing of the snapshot.
    has_said("job", "run 2");
    let id = node.inspect("job")["id"].as_str().unwrap().to_owned();
    assert!(!node.path("data/workloads").join(id).join("resume").exists(), "the first run's loan is left");
    assert_eq!(node.inspect("job")["restarts"], 1);
    inside(&node, "job", "touch /go");
    node.run(&["wait", "job"]).expect(3);
    node.run(&["snapshots", "rm", "waiting"]).expect(0);
    node.finish();
}
