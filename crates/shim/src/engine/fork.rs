//! A child of the engine, born into the workload's v2 cgroup: what it clones in turn is in there as well.
//! It refuses to be used by a process with threads: only the calling one would exist in the child.

#![allow(unsafe_code, reason = "clone3 with CLONE_INTO_CGROUP has no safe wrapper")]

use std::{
    fs::File,
    io,
    os::fd::AsRawFd,
    panic::{AssertUnwindSafe, catch_unwind},
    process::exit,
};

use nix::{
    sys::wait::{WaitStatus, waitpid},
    unistd::Pid,
};

/// Flag of clone3: begin in the cgroup of a descriptor (linux/sched.h; the C bindings cut it to 32 bits).
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `struct clone_args` up to the cgroup (clone(2), since Linux 5.7).
#[repr(C)]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Runs `work` in a child that begins in `cgroup`, and waits until it has ended. True if `work` said so.
/// Children that the child leaves behind go to the next subreaper above.
///
/// # Errors
/// There is no child, or it didn't end by itself.
pub(super) fn run(cgroup: Option<&File>, work: impl FnOnce() -> bool) -> io::Result<bool> {
    wait(spawn(cgroup, work)?)
}

/// As [`run`], without waiting: the child's id, which is for [`wait`].
pub(super) fn spawn(cgroup: Option<&File>, work: impl FnOnce() -> bool) -> io::Result<Pid> {
    let mut arguments = CloneArguments { exit_signal: libc::SIGCHLD as u64, ..CloneArguments::default() };
    if let Some(cgroup) = cgroup {
        arguments.flags = CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: the arguments live through the call and are as long as it is told. Without CLONE_VM the child has its
    // own copy of everything, as after fork; the engine has one thread, so no lock is held by a thread that the child
    // lacks, and it may go on in Rust.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<CloneArguments>()) };
    match i32::try_from(pid) {
        // A panic must not unwind into what is the parent's business.
        Ok(0) => exit(if catch_unwind(AssertUnwindSafe(work)).unwrap_or(false) { 0 } else { 1 }),
        Ok(pid) if pid > 0 => Ok(Pid::from_raw(pid)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Waits until `child` has ended. True if its work said so.
pub(super) fn wait(child: Pid) -> io::Result<bool> {
    match waitpid(child, None)? {
        WaitStatus::Exited(_, code) => Ok(code == 0),
        status => Err(io::Error::other(format!("the helper's child was ended: {status:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_childs_word_comes_back() {
        for said in [true, false] {
            assert_eq!(run(None, || said).unwrap(), said);
        }
    }
}
