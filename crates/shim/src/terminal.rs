//! The size of a terminal: what an execution asks for, and how it is set. It refuses everything else about terminals.

#![allow(unsafe_code, reason = "the ioctl has no safe wrapper")]

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};

use nix::libc;
use serde::{Deserialize, Serialize};

/// Size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

impl TerminalSize {
    /// Gives a terminal this size, through either of its ends.
    pub(crate) fn apply(self, terminal: impl AsFd) -> io::Result<()> {
        let size = libc::winsize { ws_row: self.rows, ws_col: self.columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: TIOCSWINSZ reads one winsize from the pointer, which is that of a live local.
        match unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}
