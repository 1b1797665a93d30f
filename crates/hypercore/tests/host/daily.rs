//! Looking at what runs: stats, port, node, events, logs of several, filters.

use hypercore_fixtures::{skip_without_root, wait_until};

use crate::{node::Node, screen::Screen};

const SOON: std::time::Duration = std::time::Duration::from_secs(30);

#[test]
fn stats_tell_who_is_busy() {
    if skip_without_root("stats_tell_who_is_busy") {
        return;
    }
    let node = Node::start();
    node.detach(&["--name", "busy", "--memory", "64MiB", "busybox", "--", "sh", "-c", "while :; do :; done"]);
    node.detach(&["--name", "idle", "busybox", "--", "sleep", "1000"]);
    let looks = node.run(&["stats", "--no-stream", "--json"]).expect(0).json();
    let of = |name: &str| looks.as_array().unwrap().iter().find(|look| look["name"] == name).unwrap().clone();
    assert!(of("busy")["cpu_percent"].as_f64().unwrap() > 5.0, "{looks:#}");
    assert!(of("idle")["cpu_percent"].as_f64().unwrap() < 5.0, "{looks:#}");
    assert_eq!((&of("busy")["memory_limit_bytes"], &of("busy")["pids"]), (&(64 << 20).into(), &1.into()));
    let address = node.inspect("idle")["address"].as_str().unwrap().to_owned();
    // Nobody listens there; asking and being refused are bytes too.
    let knock = format!("for n in 1 2 3 4 5; do nc -w 1 {address} 9 </dev/null; done; true");
    node.run(&["exec", "busy", "--", "sh", "-c", &knock]).expect(0);
    let sent = || {
        let look = node.run(&["stats", "busy", "--no-stream", "--json"]).expect(0).json();
        (look[0]["network_sent_bytes"].as_u64()? > 250 && look[0]["network_received_bytes"].as_u64()? > 250)
            .then_some(())
    };
    wait_until(SOON, sent).expect("what went both ways was counted");
    node.run(&["stats", "nosuch", "--no-stream"]).expect(3);
    let nodes = node.run(&["node", "ls", "--metrics", "--json"]).expect(0).json();
    assert!(nodes[0]["used"]["cpu_millis"].as_u64().unwrap() > 50, "{nodes:#}");
    assert_eq!(nodes[0]["workloads_running"], 2);
    let screen = Screen::begin(&node.path("run/api.sock"), &["stats", "busy"]);
    screen.wait_for("MEM USAGE / LIMIT");
    // The second picture is drawn over the first: two lines up.
    screen.wait_for("\x1b[2A");
    node.run(&["kill", "busy"]).expect(0);
    assert_eq!(screen.end(), Some(0), "who looks at nobody any more has seen enough");
    node.finish();
}

#[test]
fn ports_are_told_as_docker_tells_them() {
    if skip_without_root("ports_are_told_as_docker_tells_them") {
        return;
    }
    let node = Node::start();
    node.detach(&["--name", "web", "-p", "80", "-p", "53/udp", "busybox", "--", "sleep", "1000"]);
    let all = node.run(&["port", "web"]).expect(0).stdout;
    assert!(all.contains("80/tcp -> 0.0.0.0:") && all.contains("53/udp -> 0.0.0.0:"), "{all}");
    let one = node.run(&["port", "web", "80"]).expect(0).stdout;
    for address in one.lines() {
        assert!(all.contains(&format!("80/tcp -> {address}\n")), "{all} {one}");
    }
    let addresses: Vec<&str> = one.lines().map(|line| line.rsplit_once(':').unwrap().0).collect();
    // The same condition as the node's own: `cidr6 = "auto"` needs a kernel with IPv6.
    let has_v6 = std::path::Path::new("/proc/net/if_inet6").exists();
    assert_eq!(addresses, if has_v6 { &["0.0.0.0", "[::]"][..] } else { &["0.0.0.0"] });
    let ended = node.run(&["port", "web", "81"]).expect(3);
    assert!(ended.stderr.contains("publishes no port 81/tcp"), "{ended:?}");
    node.finish();
}

#[test]
fn logs_of_several_say_whose_they_are() {
    if skip_without_root("logs_of_several_say_whose_they_are") {
        return;
    }
    let node = Node::start();
    for name in ["a", "long"] {
        node.detach(&[
            "--name",
            name,
            "--label",
            name,
            "busybox",
            "--",
            "sh",
            "-c",
            "echo one; echo two >&2",
        ]);
        node.run(&["wait", name]).expect(0);
    }
    let ended = node.run(&["logs", "a", "long"]).expect(0);
    assert!(ended.stdout.contains("a    | one\n") && ended.stdout.contains("long | one\n"), "{ended:?}");
    assert!(ended.stderr.contains("long | two\n"), "{ended:?}");
    let stamped = node.run(&["logs", "-t", "a"]).expect(0).stdout;
    assert!(stamped.ends_with("Z one\n") && stamped.starts_with("20"), "{stamped}");
    assert_eq!(node.run(&["logs", "--until", "1", "a"]).expect(0).stdout, "");
    assert_eq!(node.run(&["logs", "--since", "1h", "--until", "0s", "a"]).expect(0).stdout, "one\n");
    let listed = |arguments: &[&str]| node.run(arguments).expect(0).stdout.lines().count();
    assert_eq!(listed(&["ps", "-q", "-f", "status=exited"]), 2);
    assert_eq!(listed(&["ps", "-aq", "-f", "label=a"]), 1);
    assert_eq!(listed(&["ps", "-lq"]), 1);
    assert_eq!(listed(&["ps", "-q"]), 0);
    node.finish();
}

#[test]
fn events_tell_the_life_of_a_workload() {
    if skip_without_root("events_tell_the_life_of_a_workload") {
        return;
    }
    let node = Node::start();
    node.run(&["run", "--name", "job", "busybox", "--", "sh", "-c", "exit 3"]).expect(3);
    let arguments = [
        "events",
        "--since",
        "1h",
        "--until",
        "0s",
        "--filter",
        "workload=job",
        "--filter",
        "type=container",
        "--json",
    ];
    let has_exited = || {
        let told = node.run(&arguments).expect(0).stdout;
        let events: Vec<serde_json::Value> =
            told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let actions: Vec<_> =
            events.iter().map(|event| event["action"].as_str().unwrap().to_owned()).collect();
        actions.contains(&"exited".to_owned()).then_some(actions)
    };
    let actions = wait_until(SOON, has_exited).expect("its end was told");
    assert!(
        actions.contains(&"created".to_owned()) && actions.contains(&"started".to_owned()),
        "{actions:?}"
    );
    node.finish();
}
