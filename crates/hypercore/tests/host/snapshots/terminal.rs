//! The first process of a restored machine is the workload's in every way: its terminal, its input, its signals and its
//! exit code are those of the one that was kept.

use hypercore_fixtures::skip_without_machines;

use crate::{node::Node, screen::Screen};

#[test]
fn a_shell_goes_on_with_what_it_knew() {
    if skip_without_machines("a_shell_goes_on_with_what_it_knew") {
        return;
    }
    let node = Node::start();
    let socket = node.path("run/api.sock");
    node.detach(&["--isolation", "microvm", "--name", "shell", "-it", "busybox", "--", "sh"]);
    let mut screen = Screen::begin(&socket, &["attach", "shell"]);
    screen.wait_until_raw();
    // What is typed is echoed: the text looked for must not stand in it.
    screen.type_keys(b"answer=41; echo rea''dy\r");
    screen.wait_for("ready");
    screen.type_keys(b"\x10\x11");
    assert_eq!(screen.end(), Some(0));
    node.run(&["snapshot", "shell", "knowing"]).expect(0);
    for name in ["second", "third"] {
        node.run(&["restore", "knowing", "--name", name]).expect(0);
    }

    let mut screen = Screen::begin(&socket, &["attach", "second"]);
    screen.wait_until_raw();
    screen.type_keys(b"echo the an''swer is $((answer + 1)); stty size\r");
    screen.wait_for("the answer is 42");
    screen.wait_for("31 97");
    screen.type_keys(b"exit 7\r");
    assert_eq!(screen.end(), Some(0));
    node.run(&["wait", "second"]).expect(7);
    // A signal reaches the other one alone.
    node.run(&["kill", "-s", "KILL", "third"]).expect(0);
    node.run(&["wait", "third"]).expect(137);
    node.run(&["exec", "shell", "true"]).expect(0);
    node.run(&["snapshots", "rm", "knowing"]).expect(0);
    node.finish();
}
