//! The few system calls that no safe wrapper covers. It refuses policy: each function is one call, its result checked.

#![allow(unsafe_code, reason = "system calls without a safe wrapper; each block argues why it is sound")]

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use hypercore_wire::message::Exit;
use nix::{
    libc,
    sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
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

/// Lets a signal that would end this process pass without effect. Unlike ignoring it, programs that are started later
/// don't inherit that: execve resets handlers (signal(7)).
pub(super) fn survive(signal: Signal) -> nix::Result<()> {
    extern "C" fn do_nothing(_: libc::c_int) {}
    let action = SigAction::new(SigHandler::Handler(do_nothing), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: a handler that does nothing is safe at any point of the execution.
    unsafe { sigaction(signal, &action) }.map(drop)
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
