//! The program on a terminal of its own: raw mode and its undoing, the size, the keys to leave.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    process::{Child, Command},
    sync::{Arc, Mutex},
    thread,
};

use hypercore_api::v1::WorkloadStatus;
use nix::{
    pty::{Winsize, openpty},
    sys::termios::{LocalFlags, Termios, tcgetattr},
};

use crate::{
    fake::{Fake, Script, Session, reached, workload},
    program::{isolated, until, wait},
};

/// A terminal with the program on it.
struct Screen {
    child: Child,
    master: File,
    // Held open so that the terminal's settings can still be looked at when the program has ended.
    slave: OwnedFd,
    before: Termios,
    shown: Arc<Mutex<String>>,
}

impl Screen {
    fn begin(fake: &Fake, arguments: &[&str]) -> Self {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let terminal = openpty(&size, None).unwrap();
        let (master, slave) = (File::from(terminal.master), terminal.slave);
        let before = tcgetattr(&slave).unwrap();
        // setsid makes the terminal the program's own, so that changes of its size are signalled.
        let mut command = isolated(Command::new("setsid"));
        command.args(["--ctty", "--wait", env!("CARGO_BIN_EXE_hypercore")]).args(arguments);
        command.env("HYPERCORE_API", format!("unix:{}", fake.socket().display()));
        let end = || slave.try_clone().unwrap();
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let shown = Arc::new(Mutex::new(String::new()));
        let (mut reader, seen) = (master.try_clone().unwrap(), Arc::clone(&shown));
        thread::spawn(move || {
            let mut buffer = [0; 1024];
            while let Ok(len @ 1..) = reader.read(&mut buffer) {
                seen.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..len]));
            }
        });
        Self { child, master, slave, before, shown }
    }

    fn type_keys(&mut self, keys: &[u8]) {
        self.master.write_all(keys).unwrap();
    }

    #[track_caller]
    fn wait_for(&self, text: &str) {
        let shows = || self.shown.lock().unwrap().contains(text).then_some(());
        assert!(until(shows).is_some(), "{text:?} is not in {:?}", self.shown.lock().unwrap());
    }

    #[track_caller]
    fn wait_until_raw(&self) {
        let is_raw = || !tcgetattr(&self.slave).unwrap().local_flags.contains(LocalFlags::ICANON);
        assert!(until(|| is_raw().then_some(())).is_some(), "the terminal never became raw");
    }

    /// Waits for the end; the terminal must be as it was.
    #[track_caller]
    fn end(mut self) -> Option<i32> {
        let code = wait(&mut self.child);
        assert_eq!(tcgetattr(&self.slave).unwrap(), self.before, "the terminal was left changed");
        code
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

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
    let mut screen = Screen::begin(&fake, &["run", "-it", "web"]);
    screen.wait_until_raw();
    // ctrl-c is a key here, not a signal.
    screen.type_keys(b"hello\x03world");
    screen.wait_for("hello\x03world");
    screen.type_keys(b"\x10\x11");
    assert_eq!(screen.end(), Some(0));
    let start = fake.calls().into_iter().find(|call| call.starts_with("attach AttachStart")).unwrap();
    assert!(start.contains("TerminalSize { rows: 24, columns: 80 }"), "{start}");
    assert!(!fake.calls().iter().any(|call| call.starts_with("kill")), "{:?}", fake.calls());
}

#[test]
fn a_changed_window_reaches_the_workload() {
    let fake = fake(Session::Echo);
    let mut screen = Screen::begin(&fake, &["run", "-it", "web"]);
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
    let screen = Screen::begin(&fake, &["exec", "-it", "web", "sh"]);
    screen.wait_for("the shim of the workload has vanished");
    assert_eq!(screen.end(), Some(125));
}

#[test]
fn attach_takes_the_terminal_that_the_workload_was_made_with() {
    let fake = fake(Session::Echo);
    let mut screen = Screen::begin(&fake, &["attach", "web"]);
    screen.wait_until_raw();
    screen.type_keys(b"typed");
    screen.wait_for("typed");
    screen.type_keys(b"\x10\x11");
    assert_eq!(screen.end(), Some(0));
}

#[test]
fn errors_are_coloured_on_a_terminal_only() {
    let fake = fake(Session::Echo);
    let screen = Screen::begin(&fake, &["inspect", "nosuch"]);
    screen.wait_for("\x1b[1;31merror:\x1b[0m there is no workload `nosuch`");
    assert_eq!(screen.end(), Some(3));
}
