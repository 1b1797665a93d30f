//! The few system calls that no safe wrapper covers. It refuses policy: each function is one call, its result checked.

#![allow(unsafe_code, reason = "system calls without a safe wrapper; each block argues why it is sound")]

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use hypercore_wire::message::Exit;
use nix::{
    libc,
    unistd::{ForkResult, Pid},
};

/// Splits this process in two; `true` in the child. Only for a process with one thread.
pub(super) fn fork() -> nix::Result<bool> {
    // SAFETY: after a fork, a child of a threaded process may only call async-signal-safe functions. This process has
    // one thread: the resident shim never starts another, and forks before anything else.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Child => Ok(true),
        ForkResult::Parent { .. } => Ok(false),
    }
}

/// Reaps one child that has ended, whichever signal ended it. `None` when there is none by now.
///
/// nix's `waitpid` knows no real-time signals: it would reap such a child and lose its id.
pub(super) fn reap() -> Option<(Pid, Exit)> {
    let mut status = 0;
    // SAFETY: waitpid writes one int to the pointer, which is that of a live local.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    if pid <= 0 {
        return None;
    }
    let exit = if libc::WIFSIGNALED(status) {
        Exit::Signal(u8::try_from(libc::WTERMSIG(status)).unwrap_or(u8::MAX))
    } else {
        Exit::Code(u8::try_from(libc::WEXITSTATUS(status)).unwrap_or(u8::MAX))
    };
    Some((Pid::from_raw(pid), exit))
}

/// Sends any signal, real-time ones included, to one process: a child that wasn't reaped, so that its id is its own.
pub(super) fn kill(pid: Pid, signal: i32) -> io::Result<()> {
    // SAFETY: kill takes plain numbers and touches no memory of this process.
    match unsafe { libc::kill(pid.as_raw(), signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// How many bytes can be read from a pipe at once, now.
pub(super) fn readable_len(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let mut len: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int to the pointer, which is that of a live local.
    match unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &raw mut len) } {
        0 => Ok(usize::try_from(len).unwrap_or(0)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sets the size of a terminal, in characters.
pub(super) fn set_terminal_size(fd: BorrowedFd<'_>, rows: u16, columns: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize from the pointer, which is that of a live local.
    match unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
