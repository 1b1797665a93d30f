//! Clones: as many as were asked for, each somebody of its own, and nothing left of how they were made.

use std::fs;

use hypercore_api::{Client, Endpoint, client::Proof, v1};
use hypercore_fixtures::{skip_without_machines, wait_until};

use super::{SOON, assert_distinct, assert_goes_on, count, inside, said, wait_for_count};
use crate::{
    contact::get,
    node::{Node, free_address},
};

/// The names in the snapshots' directory.
fn kept(node: &Node) -> Vec<String> {
    let entries = fs::read_dir(node.path("data/snapshots")).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name != ".seals").collect()
}

#[test]
fn clones_go_on_from_the_same_moment_as_somebody_else() {
    if skip_without_machines("clones_go_on_from_the_same_moment_as_somebody_else") {
        return;
    }
    let node = Node::start();
    count(&node, "counter", &[]);
    let before = *said(&node, "counter").last().unwrap();
    let ids = node.run(&["fork", "counter", "-n", "3"]).expect(0).stdout;
    let latest = *said(&node, "counter").last().unwrap();
    let ids: Vec<_> = ids.lines().collect();
    assert_eq!(ids.len(), 3, "{ids:?}");
    let clones = ["counter-1", "counter-2", "counter-3"];
    for (clone, id) in clones.iter().zip(&ids) {
        assert_goes_on(&node, clone, before, latest);
        assert_eq!(
            (node.inspect(clone)["id"].as_str(), inside(&node, clone, "hostname")),
            (Some(*id), (*clone).to_owned())
        );
    }
    assert_distinct(&node, &["counter", "counter-1", "counter-2", "counter-3"]);
    let gone = wait_until(SOON, || kept(&node).is_empty().then_some(()));
    assert!(gone.is_some(), "left of the fork: {:?}\n{}", kept(&node), node.agent_log());
    assert_eq!(node.run(&["snapshots", "ls", "-q"]).expect(0).stdout, "");

    // One's end is nobody else's, and names that are free are used again.
    node.run(&["stop", "-t", "1", "counter-2"]).expect(0);
    node.run(&["rm", "counter-2"]).expect(0);
    let now = *said(&node, "counter-3").last().unwrap();
    wait_for_count(&node, "counter-3", now + 2);
    node.run(&["fork", "counter-1"]).expect(0);
    let clone_of_clone = said(&node, "counter-1");
    assert_goes_on(&node, "counter-1-1", clone_of_clone[0], u64::MAX - 1);
    node.run(&["rm", "-f", "counter"]).expect(0);
    inside(&node, "counter-1", "true");
    node.finish();
}

#[test]
fn clones_publish_where_the_node_has_room() {
    if skip_without_machines("clones_publish_where_the_node_has_room") {
        return;
    }
    let node = Node::start();
    let address = free_address();
    let publish = format!("{}:80", address.port());
    let serve =
        "mkdir /www; hostname > /www/index.html; httpd -p 80 -h /www; echo up; while :; do sleep 1; done";
    node.detach(&[
        "--isolation",
        "microvm",
        "--name",
        "web",
        "-p",
        &publish,
        "busybox",
        "--",
        "sh",
        "-c",
        serve,
    ]);
    let answers =
        |address, text: &str| wait_until(SOON, || get(address, "/").filter(|answer| answer.contains(text)));
    assert!(answers(address, "web").is_some(), "{:#}", node.inspect("web"));
    node.run(&["fork", "web"]).expect(0);
    let port = node.run(&["port", "web-1", "80"]).expect(0).stdout;
    let port: u16 = port.lines().next().unwrap().rsplit(':').next().unwrap().parse().unwrap();
    assert_ne!(port, address.port());
    inside(&node, "web-1", "hostname > /www/index.html");
    assert!(answers(([127, 0, 0, 1], port).into(), "web-1").is_some(), "{:#}", node.inspect("web-1"));
    assert!(answers(address, "web\n").is_some(), "the parent answers no more");
    node.finish();
}

/// What a program asks for again because it heard no answer.
#[test]
fn a_repeated_request_makes_no_second_set() {
    if skip_without_machines("a_repeated_request_makes_no_second_set") {
        return;
    }
    let node = Node::start();
    count(&node, "counter", &[]);
    node.run(&["snapshot", "counter", "ready"]).expect(0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let endpoint = Endpoint::Unix(node.path("run/api.sock"));
        let client = Client::connect(&endpoint, Proof::default()).await.unwrap();
        let request = |count| v1::ForkRequest {
            id: "counter".into(),
            count,
            request_id: "1b4e28ba-2fa1-41d2-883f-0016d3cca427".into(),
        };
        let made = client.fork(request(2)).await.unwrap();
        assert_eq!(client.fork(request(2)).await.unwrap(), made);
        let restore = || v1::RestoreRequest {
            snapshot: "ready".into(),
            request_id: "2b4e28ba-2fa1-41d2-883f-0016d3cca427".into(),
            ..Default::default()
        };
        let restored = client.restore(restore()).await.unwrap();
        assert_eq!(client.restore(restore()).await.unwrap(), restored);
        let refused = client.fork(v1::ForkRequest { count: 65, ..request(1) }).await.unwrap_err();
        assert_eq!(refused.code, "invalid_request");
    });
    assert_eq!(node.run(&["ps", "-aq"]).expect(0).stdout.lines().count(), 4);
    node.run(&["snapshots", "rm", "ready"]).expect(0);
    node.finish();
}
