//! From `run` to `rm`: exit codes, outputs, names, ends of every kind.

use hypercore_fixtures::skip_without_root;

use crate::{node::Node, program::finish};

#[test]
fn attached_it_ends_with_the_workloads_code_and_keeps_the_outputs_apart() {
    if skip_without_root("attached_it_ends_with_the_workloads_code_and_keeps_the_outputs_apart") {
        return;
    }
    let node = Node::start();
    let ended =
        node.run(&["run", "--rm", "busybox", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]).expect(7);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("out\n", "err\n"));
    node.run(&["run", "--rm", "busybox", "--", "true"]).expect(0);
    assert_eq!(node.run(&["ps", "-aq"]).expect(0).stdout, "", "--rm left something");
    node.finish();
}

#[test]
fn input_goes_in_and_comes_back() {
    if skip_without_root("input_goes_in_and_comes_back") {
        return;
    }
    let node = Node::start();
    let input = "a line of input\n".repeat(20_000);
    let ended =
        finish(&mut node.command(&["run", "--rm", "-i", "busybox", "--", "cat"]), input.as_bytes()).expect(0);
    assert_eq!(ended.stdout.len(), input.len());
    assert!(ended.stdout == input, "the bytes came back changed");
    let ended = finish(&mut node.command(&["run", "--rm", "busybox", "--", "cat"]), b"not for you").expect(0);
    assert_eq!(ended.stdout, "", "without -i no input may go in");
    node.finish();
}

#[test]
fn a_workload_in_the_background_can_be_seen_stopped_and_removed() {
    if skip_without_root("a_workload_in_the_background_can_be_seen_stopped_and_removed") {
        return;
    }
    let node = Node::start();
    let id = node.detach(&[
        "--name",
        "job",
        "--label",
        "tier=back",
        "busybox",
        "--",
        "sh",
        "-c",
        "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done",
    ]);
    assert_eq!(id.len(), 36, "{id}");
    let listed = node.run(&["ps", "--json"]).expect(0).json();
    let first = &listed[0];
    assert_eq!(
        (&first["id"], &first["name"], &first["status"]),
        (&id.as_str().into(), &"job".into(), &"running".into())
    );
    assert_eq!((&first["labels"]["tier"], &first["isolation"]), (&"back".into(), &"container".into()));
    assert_eq!(first["image"], "docker.io/library/busybox:latest");

    assert_eq!(node.run(&["stop", &id[..8]]).expect(0).stdout, format!("{}\n", &id[..8]));
    assert_eq!(node.run(&["ps", "--json"]).expect(0).json(), serde_json::json!([]));
    let ended = node.run(&["ps", "-a", "--json"]).expect(0).json();
    assert_eq!((&ended[0]["status"], &ended[0]["exit_code"]), (&"stopped".into(), &3.into()));
    assert_eq!(node.run(&["logs", "job"]).expect(0).stdout, "up\nbye\n");
    assert_eq!(node.run(&["logs", "--tail", "1", "job"]).expect(0).stdout, "bye\n");
    assert_eq!(node.run(&["wait", "job"]).expect(3).stdout, "3\n");
    node.run(&["rm", "job"]).expect(0);
    node.run(&["inspect", "job"]).expect(3);
    node.finish();
}

#[test]
fn a_workload_that_ignores_being_asked_is_killed_after_its_grace() {
    if skip_without_root("a_workload_that_ignores_being_asked_is_killed_after_its_grace") {
        return;
    }
    let node = Node::start();
    node.detach(&[
        "--name",
        "deaf",
        "busybox",
        "--",
        "sh",
        "-c",
        "trap '' TERM; while :; do sleep 0.05; done",
    ]);
    node.run(&["stop", "-t", "1", "deaf"]).expect(0);
    node.run(&["wait", "deaf"]).expect(137);
    node.finish();
}

#[test]
fn signals_of_every_kind_reach_the_first_process() {
    if skip_without_root("signals_of_every_kind_reach_the_first_process") {
        return;
    }
    let node = Node::start();
    let script = "trap 'echo hup' HUP; trap 'exit 5' USR1; echo up; while :; do sleep 0.05; done";
    node.detach(&["--name", "job", "busybox", "--", "sh", "-c", script]);
    node.run(&["kill", "-s", "HUP", "job"]).expect(0);
    node.run(&["kill", "-s", "USR1", "job"]).expect(0);
    node.run(&["wait", "job"]).expect(5);
    let said = node.run(&["logs", "job"]).expect(0).stdout;
    assert!(said.starts_with("up\n"), "{said}");
    node.run(&["kill", "job"]).expect(6);
    node.finish();
}

#[test]
fn rm_refuses_what_runs_and_force_ends_it() {
    if skip_without_root("rm_refuses_what_runs_and_force_ends_it") {
        return;
    }
    let node = Node::start();
    node.detach(&["--name", "job", "busybox", "--", "sleep", "1000"]);
    let ended = node.run(&["rm", "job"]).expect(6);
    assert!(ended.stderr.contains("hint: ") && ended.stderr.contains("rm -f"), "{ended:?}");
    node.run(&["rm", "-f", "job"]).expect(0);
    assert_eq!(node.run(&["ps", "-aq"]).expect(0).stdout, "");
    node.finish();
}

#[test]
fn what_the_image_and_the_flags_say_is_what_the_process_sees() {
    if skip_without_root("what_the_image_and_the_flags_say_is_what_the_process_sees") {
        return;
    }
    let node = Node::start();
    let script = "id -u; id -g; pwd; hostname; echo $MODE; ulimit -p >/dev/null; cat /etc/resolv.conf >/dev/null && echo dns";
    let ended = node
        .run(&[
            "run",
            "--rm",
            "-u",
            "1000:1001",
            "-w",
            "/tmp",
            "--hostname",
            "box",
            "-e",
            "MODE=test",
            "busybox",
            "--",
            "sh",
            "-c",
            script,
        ])
        .expect(0);
    assert_eq!(ended.stdout, "1000\n1001\n/tmp\nbox\ntest\ndns\n", "{ended:?}");
    node.finish();
}

#[test]
fn a_memory_limit_ends_what_exceeds_it_and_says_so() {
    if skip_without_root("a_memory_limit_ends_what_exceeds_it_and_says_so") {
        return;
    }
    let node = Node::start();
    node.detach(&[
        "--name",
        "hog",
        "--memory",
        "16MiB",
        "busybox",
        "--",
        "sh",
        "-c",
        "x=0123456789abcdef; while :; do x=$x$x; done",
    ]);
    node.run(&["wait", "hog"]).expect(137);
    let hog = node.inspect("hog");
    assert_eq!((&hog["exit_code"], &hog["out_of_memory"]), (&137.into(), &true.into()), "{hog:#}");
    node.finish();
}
