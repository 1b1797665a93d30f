//! The program on a terminal of its own: raw mode and its undoing, the size, the keys to leave.

use hypercore_api::v1::WorkloadStatus;

use crate::{
    fake::{Fake, Script, Session, reached, workload},
    screen::Screen,
};

fn fake(session: Session) -> Fake {
    let mut running = workload(WorkloadStatus::Running, 0);
    let request = running.source_request.as_mut().unwrap();
    (request.tty, request.stdin_open) = (true, true);
    Fake::start(Script {
        session,
        progress: vec![reached(running.clone())],
        workloads: vec![running],
        ..Script::default()
    })
}

#[test]
fn keys_go_through_unseen_and_the_terminal_is_put_back() {
    let fake = fake(Session::Echo);
    let mut screen = Screen::begin(&fake.socket(), &["run", "-it", "web"]);
    screen.wait_until_raw();
    // ctrl-c is a key here, not a signal.
    screen.type_keys(b"hello\x03world");
    screen.wait_for("hello\x03world");
    screen.type_keys(b"\x10\x11");
    screen.wait_for("runs on: `hypercore attach 1b4e28ba-2fa`");
    assert_eq!(screen.end(), Some(0));
    let start = fake.calls().into_iter().find(|call| call.starts_with("attach AttachStart")).unwrap();
    assert!(start.contains("TerminalSize { rows: 31, columns: 97 }"), "{start}");
    assert!(!fake.calls().iter().any(|call| call.starts_with("kill")), "{:?}", fake.calls());
}

#[test]
fn a_changed_window_reaches_the_workload() {
    let fake = fake(Session::Echo);
    let mut screen = Screen::begin(&fake.socket(), &["run", "-it", "web"]);
    screen.wait_until_raw();
    screen.type_keys(b"up");
    screen.wait_for("up");
    let size = rustix::termios::Winsize { ws_row: 50, ws_col: 132, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&screen.master, size).unwrap();
    screen.wait_for("[50x132]");
    screen.type_keys(b"\x10\x11");
    assert_eq!(screen.end(), Some(0));
}

#[test]
fn the_terminal_is_put_back_when_the_agent_breaks() {
    let fake = fake(Session::Break);
    let screen = Screen::begin(&fake.socket(), &["exec", "-it", "web", "sh"]);
    screen.wait_for("the shim of the workload has vanished");
    assert_eq!(screen.end(), Some(125));
}

#[test]
fn attach_takes_the_terminal_that_the_workload_was_made_with() {
    let fake = fake(Session::Echo);
    let mut screen = Screen::begin(&fake.socket(), &["attach", "web"]);
    screen.wait_until_raw();
    screen.type_keys(b"typed");
    screen.wait_for("typed");
    screen.type_keys(b"\x10\x11");
    assert_eq!(screen.end(), Some(0));
}

#[test]
fn errors_are_coloured_on_a_terminal_only() {
    let fake = fake(Session::Echo);
    let screen = Screen::begin(&fake.socket(), &["inspect", "nosuch"]);
    screen.wait_for("\x1b[1;31merror:\x1b[0m there is no workload `nosuch`");
    assert_eq!(screen.end(), Some(3));
}
