//! Storage through the front door: volumes that outlive workloads and agents, host directories, and what is refused.

use std::fs;

use hypercore_fixtures::skip_without_root;

use crate::node::Node;

fn shell<'a>(flags: &[&'a str], script: &'a str) -> Vec<&'a str> {
    [&["run", "--rm"], flags, &["busybox", "--", "sh", "-c", script]].concat()
}

#[test]
fn a_volume_outlives_workloads_and_the_agent_until_it_is_removed() {
    if skip_without_root("a_volume_outlives_workloads_and_the_agent_until_it_is_removed") {
        return;
    }
    let mut node = Node::start();
    assert_eq!(node.run(&["volume", "create", "--label", "team=blue", "kept"]).expect(0).stdout, "kept\n");
    node.run(&["volume", "create", "kept"]).expect(6);
    let drawn = node.run(&["volume", "create"]).expect(0).stdout;

    node.run(&shell(&["-v", "kept:/data"], "echo one > /data/file")).expect(0);
    // Two at once see each other's writes.
    let reader = node.detach(&[
        "--name",
        "reader",
        "-v",
        "kept:/in:ro",
        "busybox",
        "--",
        "sh",
        "-c",
        "until grep -q two /in/file; do sleep 0.05; done; touch /in/x 2>/dev/null || echo read-only",
    ]);
    node.run(&shell(&["-v", "kept:/data"], "echo two >> /data/file")).expect(0);
    node.wait_for_status("reader", "stopped");
    assert_eq!(node.run(&["logs", "reader"]).expect(0).stdout, "read-only\n");

    node.kill_agent();
    node.start_agent();
    let volumes = node.run(&["volume", "ls", "--json"]).expect(0).json();
    let kept = volumes.as_array().unwrap().iter().find(|volume| volume["name"] == "kept").unwrap();
    assert_eq!((&kept["labels"]["team"], &kept["used_by"][0]), (&"blue".into(), &reader.as_str().into()));
    let inspected = node.run(&["volume", "inspect", "kept"]).expect(0).json();
    assert!(inspected[0]["size_bytes"].as_u64().unwrap() > 0, "{inspected}");

    let refused = node.run(&["volume", "rm", "kept"]).expect(6);
    assert!(refused.stderr.contains(&reader[..12]), "{refused:?}");
    node.run(&["rm", "reader"]).expect(0);
    node.run(&["volume", "rm", "kept", drawn.trim()]).expect(0);
    assert_eq!(node.run(&["volume", "ls", "-q"]).expect(0).stdout, "");
    node.run(&["volume", "rm", "kept"]).expect(3);
    node.run(&["volume", "inspect", "kept"]).expect(3);
    node.finish();
}

#[test]
fn a_volume_is_made_on_its_first_use() {
    if skip_without_root("a_volume_is_made_on_its_first_use") {
        return;
    }
    let node = Node::start();
    node.run(&shell(&["-v", "fresh:/bin"], "true")).expect(0);
    // It began with what the image has there.
    let listed = node.run(&shell(&["-v", "fresh:/x:ro"], "ls /x")).expect(0).stdout;
    assert!(listed.contains("busybox\n"), "{listed}");
    node.run(&["volume", "rm", "fresh"]).expect(0);
    node.finish();
}

#[test]
fn host_directories_are_mounted_and_the_nodes_own_are_not() {
    if skip_without_root("host_directories_are_mounted_and_the_nodes_own_are_not") {
        return;
    }
    let node = Node::start();
    let shared = tempfile::tempdir().unwrap();
    fs::write(shared.path().join("in"), "from the host\n").unwrap();
    let bind = format!("{}:/mnt", shared.path().display());
    let ended = node
        .run(&shell(&["-v", &bind, "--read-only"], "cat /mnt/in; echo made > /mnt/out; touch /x"))
        .expect(1);
    assert_eq!(ended.stdout, "from the host\n");
    assert_eq!(fs::read_to_string(shared.path().join("out")).unwrap(), "made\n");

    for own in ["data", "run"] {
        let bind = format!("{}:/mnt", node.path(own).display());
        let refused = node.run(&shell(&["-v", &bind], "ls /mnt")).expect(125);
        assert!(refused.stderr.contains("belongs to the node"), "{refused:?}");
    }
    let missing = node.run(&shell(&["-v", "/no/such/place:/mnt"], "true")).expect(125);
    assert!(missing.stderr.contains("/no/such/place"), "{missing:?}");
    node.finish();
}

#[test]
fn ends_are_told_as_they_were() {
    if skip_without_root("ends_are_told_as_they_were") {
        return;
    }
    let node = Node::start();
    let killed = node.detach(&["busybox", "--", "sleep", "1000"]);
    node.run(&["kill", "-s", "KILL", &killed]).expect(0);
    node.run(&["wait", &killed]).expect(128 + 9);
    assert_eq!(node.inspect(&killed)["out_of_memory"], false);
    // A first process can't end by a signal of its own; below an init it is not the first.
    node.run(&shell(&["--init"], "kill -SEGV $$")).expect(128 + 11);
    for init in [&[][..], &["--init"][..]] {
        let eat = "tail /dev/zero";
        let flags = [&["-d", "--memory", "16MiB"], init].concat();
        let id =
            node.run(&[&["run"], &flags[..], &["busybox", "--", "sh", "-c", eat]].concat()).expect(0).stdout;
        node.wait_for_status(id.trim(), "stopped");
        let inspected = node.inspect(id.trim());
        assert_eq!((&inspected["out_of_memory"], &inspected["exit_code"]), (&true.into(), &137.into()));
        node.run(&["rm", id.trim()]).expect(0);
    }
    // The signal and the time to end are those of the spec.
    let stubborn = node.detach(&[
        "--stop-signal",
        "USR1",
        "--stop-timeout",
        "0",
        "busybox",
        "--",
        "sh",
        "-c",
        "trap '' USR1; while :; do sleep 0.05; done",
    ]);
    node.run(&["stop", &stubborn]).expect(0);
    assert_eq!(node.inspect(&stubborn)["exit_code"], 137);
    node.run(&["rm", &stubborn]).expect(0);
    node.finish();
}
