//! A real shell in a real container on a real terminal.

use hypercore_fixtures::skip_without_root;

use crate::{node::Node, screen::Screen};

#[test]
fn a_shell_has_a_terminal_of_the_right_size_and_ends_with_its_code() {
    if skip_without_root("a_shell_has_a_terminal_of_the_right_size_and_ends_with_its_code") {
        return;
    }
    let node = Node::start();
    let mut screen =
        Screen::begin(&node.path("run/api.sock"), &["run", "--rm", "-it", "busybox", "--", "sh"]);
    screen.wait_for("# ");
    // What is typed is echoed: the text looked for must not stand in it.
    screen.type_keys(b"tty; stty size; echo di''d\r");
    screen.wait_for("did");
    screen.wait_for("/dev/pts/");
    screen.wait_for("31 97");
    screen.type_keys(b"exit 6\r");
    assert_eq!(screen.end(), Some(6));
    node.finish();
}

#[test]
fn a_shell_can_be_left_running_and_joined_again() {
    if skip_without_root("a_shell_can_be_left_running_and_joined_again") {
        return;
    }
    let node = Node::start();
    let mut screen =
        Screen::begin(&node.path("run/api.sock"), &["run", "--name", "shell", "-it", "busybox", "--", "sh"]);
    screen.wait_for("# ");
    screen.wait_until_raw();
    screen.type_keys(b"\x10\x11");
    assert_eq!(screen.end(), Some(0));
    assert_eq!(node.inspect("shell")["status"], "running");
    let mut screen = Screen::begin(&node.path("run/api.sock"), &["attach", "shell"]);
    screen.type_keys(b"echo ba''ck; exit 3\r");
    screen.wait_for("back");
    assert_eq!(screen.end(), Some(0));
    node.run(&["wait", "shell"]).expect(3);
    node.finish();
}

#[test]
fn exec_opens_a_second_terminal() {
    if skip_without_root("exec_opens_a_second_terminal") {
        return;
    }
    let node = Node::start();
    node.detach(&["--name", "job", "busybox", "--", "sleep", "1000"]);
    let mut screen = Screen::begin(&node.path("run/api.sock"), &["exec", "-it", "job", "sh"]);
    screen.wait_for("# ");
    screen.type_keys(b"stty size; exit 2\r");
    screen.wait_for("31 97");
    assert_eq!(screen.end(), Some(2));
    node.finish();
}
