//! Bad input and clashes: each a clear line with a hint and the right exit code, with nothing left behind.

use hypercore_api::{Client, Endpoint, client::Proof, v1};
use hypercore_fixtures::{ImageBuilder, skip_without_root};

use crate::{
    node::{Node, free_address},
    program::{Ended, finish},
};

#[track_caller]
fn assert_told(ended: &Ended, part: &str) {
    let lines: Vec<_> = ended.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{ended:#?}");
    assert!(lines[0].starts_with("error: ") && lines[0].contains(part), "{part}: {ended:#?}");
    assert!(lines[1].starts_with("hint: "), "{ended:#?}");
}

#[test]
fn names_and_ports_that_are_taken_are_conflicts() {
    if skip_without_root("names_and_ports_that_are_taken_are_conflicts") {
        return;
    }
    let node = Node::start();
    let publish = format!("{}:80", free_address().port());
    node.detach(&["--name", "web", "-p", &publish, "busybox", "--", "sleep", "1000"]);
    assert_told(&node.run(&["run", "-d", "--name", "web", "busybox"]).expect(6), "web");
    assert_told(&node.run(&["run", "--name", "web", "busybox"]).expect(125), "web");
    let port = publish.split(':').next().unwrap();
    assert_told(&node.run(&["run", "-d", "-p", &publish, "busybox", "--", "sleep", "1000"]).expect(6), port);

    // A port that something else on the host listens on is taken too.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    assert_told(
        &node.run(&["run", "-d", "-p", &format!("{port}:80"), "busybox", "--", "sleep", "9"]).expect(6),
        &port,
    );
    assert_eq!(node.run(&["ps", "-aq"]).expect(0).stdout.lines().count(), 1, "a refused one was left behind");
    node.finish();
}

#[test]
fn a_command_user_or_entrypoint_that_is_not_there_is_told_as_such() {
    if skip_without_root("a_command_user_or_entrypoint_that_is_not_there_is_told_as_such") {
        return;
    }
    let node = Node::start();
    assert_told(&node.run(&["run", "busybox", "--", "nosuchcommand"]).expect(127), "nosuchcommand");
    assert_told(&node.run(&["run", "-d", "busybox", "--", "nosuchcommand"]).expect(1), "nosuchcommand");
    assert_told(&node.run(&["run", "busybox", "--", "/etc"]).expect(126), "/etc");
    assert_told(&node.run(&["run", "-u", "nosuchuser", "busybox", "--", "true"]).expect(125), "nosuchuser");
    let archive = node.path("bare.tar");
    ImageBuilder::empty().file("hello", "hi").build().write_archive(&archive, "bare").unwrap();
    node.run(&["image", "import", archive.to_str().unwrap(), "--as", "bare"]).expect(0);
    assert_told(&node.run(&["run", "bare"]).expect(125), "command");
    // A workload that is removed at its end tells all the same why it had none.
    for _ in 0..10 {
        assert_told(
            &node.run(&["run", "--rm", "busybox", "--", "nosuchcommand"]).expect(127),
            "nosuchcommand",
        );
        node.run(&["run", "--rm", "busybox", "--", "sh", "-c", "exit 5"]).expect(5);
    }
    assert_eq!(node.run(&["ps", "-aq"]).expect(0).stdout, "", "what never ran was left behind");
    node.finish();
}

#[test]
fn an_ambiguous_prefix_lists_what_it_could_mean() {
    if skip_without_root("an_ambiguous_prefix_lists_what_it_could_mean") {
        return;
    }
    let node = Node::start();
    let ids = ["1b4e28ba-2fa1-41d2-883f-0016d3cca427", "1b4e99ff-2fa1-41d2-883f-0016d3cca427"];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client =
            Client::connect(&Endpoint::Unix(node.path("run/api.sock")), Proof::default()).await.unwrap();
        for id in ids {
            let request = v1::VmSpawnRequest {
                image_ref: "busybox".into(),
                command: vec!["sleep".into(), "1000".into()],
                request_id: id.into(),
                ..Default::default()
            };
            client.spawn(request).await.unwrap();
        }
    });
    let ended = node.run(&["inspect", "1b4e"]).expect(2);
    for id in ids {
        assert!(ended.stderr.contains(&id[..12]), "{ended:?}");
    }
    assert!(ended.stderr.contains("hint: "), "{ended:?}");
    node.run(&["inspect", "1b4e2"]).expect(0);
    node.finish();
}

#[test]
fn a_second_agent_on_the_same_directory_is_refused_by_name() {
    if skip_without_root("a_second_agent_on_the_same_directory_is_refused_by_name") {
        return;
    }
    let node = Node::start();
    let ended = finish(&mut node.up(), b"").expect(6);
    assert!(ended.stderr.contains("in use by another agent"), "{ended:?}");
    node.run(&["ps"]).expect(0);

    let mut other = Node::prepare();
    let free = std::mem::replace(&mut other.http, node.http);
    assert_told(&finish(other.up().arg("-q"), b"").expect(6), &node.http.to_string());
    other.http = free;
    let free = std::mem::replace(&mut other.bridge, node.bridge.clone());
    assert_told(&finish(other.up().arg("-q"), b"").expect(6), &node.bridge);
    other.bridge = free;
    other.assert_nothing_left();
    other.start_agent();
    other.finish();
    node.finish();
}

#[test]
fn a_node_keeps_the_subnet_that_it_was_admitted_with() {
    if skip_without_root("a_node_keeps_the_subnet_that_it_was_admitted_with") {
        return;
    }
    let mut node = Node::prepare();
    node.start_agent();
    assert_eq!(node.stop_agent(), Some(0));
    let own = std::mem::replace(&mut node.cidr, "10.1.2.0/24".to_owned());
    assert_told(&finish(node.up().arg("-q"), b"").expect(6), &own);
    node.assert_nothing_left();
    node.cidr = own;
    node.start_agent();
    node.finish();
}

#[test]
fn without_the_agent_every_command_says_so() {
    if skip_without_root("without_the_agent_every_command_says_so") {
        return;
    }
    let mut node = Node::start();
    assert_eq!(node.stop_agent(), Some(0));
    let ended = node.run(&["ps"]).expect(5);
    assert_told(&ended, "no agent answers at unix:");
    assert!(ended.stderr.contains("hypercore up"), "{ended:?}");
    node.start_agent();
    node.finish();
}
