//! The program on a terminal of its own, which must be as it was when the program has ended.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    path::Path,
    process::{Child, Command},
    sync::{Arc, Mutex},
    thread,
};

use nix::{
    pty::{Winsize, openpty},
    sys::termios::{LocalFlags, Termios, tcgetattr},
};

use crate::program::{isolated, until, wait};

/// A terminal with the program on it: 31 rows of 97 columns.
pub(crate) struct Screen {
    child: Child,
    pub(crate) master: File,
    // Held open so that the terminal's settings can still be looked at when the program has ended.
    slave: OwnedFd,
    before: Termios,
    shown: Arc<Mutex<String>>,
}

impl Screen {
    /// Starts the program with these arguments, told that the agent is at this socket.
    pub(crate) fn begin(socket: &Path, arguments: &[&str]) -> Self {
        let size = Winsize { ws_row: 31, ws_col: 97, ws_xpixel: 0, ws_ypixel: 0 };
        let terminal = openpty(&size, None).unwrap();
        let (master, slave) = (File::from(terminal.master), terminal.slave);
        let before = tcgetattr(&slave).unwrap();
        // setsid makes the terminal the program's own, so that changes of its size are signalled.
        let mut command = isolated(Command::new("setsid"));
        command.args(["--ctty", "--wait", env!("CARGO_BIN_EXE_hypercore")]).args(arguments);
        command.env("HYPERCORE_API", format!("unix:{}", socket.display()));
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

    /// Presses keys.
    pub(crate) fn type_keys(&mut self, keys: &[u8]) {
        self.master.write_all(keys).unwrap();
    }

    /// Changes the terminal's size, as dragging a window's corner does.
    #[allow(dead_code, reason = "of the two test programs that share this file, one resizes")]
    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&self.master, size).unwrap();
    }

    /// Waits until this was shown.
    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) {
        let shows = || self.shown.lock().unwrap().contains(text).then_some(());
        assert!(until(shows).is_some(), "{text:?} is not in {:?}", self.shown.lock().unwrap());
    }

    /// Waits until keys go through unseen.
    #[track_caller]
    pub(crate) fn wait_until_raw(&self) {
        let is_raw = || !tcgetattr(&self.slave).unwrap().local_flags.contains(LocalFlags::ICANON);
        let became_raw = until(|| is_raw().then_some(()));
        assert!(became_raw.is_some(), "never raw; shown: {:?}", self.shown.lock().unwrap());
    }

    /// Waits for the end and answers the exit code.
    #[track_caller]
    pub(crate) fn end(mut self) -> Option<i32> {
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
