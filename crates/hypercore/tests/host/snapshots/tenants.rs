//! A snapshot is its workload's tenant's: nobody else with a token learns that there is one, and none of them goes on with
//! what it holds.

use hypercore_fixtures::skip_without_machines;

use super::{count, inside};
use crate::{
    node::{Node, free_address},
    program::{Ended, finish, hypercore},
};

#[test]
fn snapshots_of_other_tenants_are_not_there() {
    if skip_without_machines("snapshots_of_other_tenants_are_not_there") {
        return;
    }
    let (mut node, address) = (Node::prepare(), free_address());
    node.set("HYPERCORE_UP_GRPC_BIND_ADDR", address.to_string());
    node.start_agent();
    node.import_busybox();
    let token = |arguments: &[&str]| {
        node.run(&[&["token", "create"], arguments].concat()).expect(0).stdout.trim().to_owned()
    };
    let [ours, theirs] = ["one", "two"].map(|tenant| token(&["--scope", "run", "--tenant", tenant]));
    let reader = token(&["--scope", "read", "--tenant", "one"]);
    let call = |token: &str, arguments: &[&str]| -> Ended {
        let mut command = hypercore();
        command.env("HYPERCORE_API", format!("https://{address}")).env("HYPERCORE_TOKEN", token);
        finish(command.args(arguments), b"")
    };
    count(&node, "counter", &["--tenant", "one"]);
    call(&theirs, &["snapshot", "counter", "mine"]).expect(3);
    call(&reader, &["snapshot", "counter", "mine"]).expect(4);
    call(&ours, &["snapshot", "counter", "ready"]).expect(0);
    for (token, names) in [(&ours, "ready\n"), (&reader, "ready\n"), (&theirs, "")] {
        assert_eq!(call(token, &["snapshots", "ls", "-q"]).expect(0).stdout, names);
    }
    for arguments in [&["restore", "ready"][..], &["snapshots", "rm", "ready"]] {
        let told = call(&theirs, arguments).expect(3).stderr;
        assert!(told.contains("there is no snapshot ready"), "{told}");
        call(&reader, arguments).expect(4);
    }
    call(&theirs, &["fork", "counter"]).expect(3);
    call(&ours, &["restore", "ready", "--name", "second"]).expect(0);
    assert_eq!(node.inspect("second")["tenant"], "one");
    assert_eq!(inside(&node, "second", "cat /kept"), "kept");
    // One that nobody can read is the whole node's.
    std::fs::create_dir(node.path("data/snapshots/odd")).unwrap();
    assert_eq!(call(&ours, &["snapshots", "ls", "-q"]).expect(0).stdout, "ready\n");
    assert_eq!(node.run(&["snapshots", "ls", "-q"]).expect(0).stdout, "odd\nready\n");
    call(&ours, &["snapshots", "rm", "odd"]).expect(3);
    node.run(&["snapshots", "rm", "odd"]).expect(0);
    call(&ours, &["snapshots", "rm", "ready"]).expect(0);
    node.finish();
}
