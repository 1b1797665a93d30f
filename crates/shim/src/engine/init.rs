//! The init of a container that asked for one: the engine stays as its first process, and the program becomes a child
//! of it. It passes signals on, takes the exit statuses of orphans, and ends as the program ended.
//!
//! No file of the image is needed, and none is put into it: what runs is the memory of the engine. It holds nothing of
//! the host (no descriptor, no argument), and its program is one that can't be written to (see [`super::own_program`]).
//!
//! It refuses to outlive the program: with it the kernel ends whatever else runs in the container.

#![allow(unsafe_code, reason = "fork, close_range and a process's own arguments have no safe wrappers")]

use std::{fs, process::exit};

use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    libc,
    sys::{
        signal::{SigSet, SigmaskHow, sigprocmask},
        stat::Mode,
    },
    unistd::{ForkResult, Pid, dup2_stderr, dup2_stdin, dup2_stdout, fork, getpgrp, setpgid, tcsetpgrp},
};

/// What the first process is called in the container's process list.
const NAME: &std::ffi::CStr = c"hypercore-init";
/// Where a process finds how the kernel sees it.
const STAT: &str = "/proc/self/stat";

/// Splits this process, which must have a single thread: what returns is the child, which is to become the program. The
/// parent stays as init and never returns.
///
/// # Errors
/// There is no child.
pub(super) fn split() -> Result<(), Errno> {
    // Blocked, signals wait until init asks for them; unblocked, the kernel would drop them for a first process.
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None)?;
    // SAFETY: the process has one thread, so the child lacks none and no lock is held by another.
    match unsafe { fork() }? {
        ForkResult::Child => {
            lead();
            Ok(())
        }
        ForkResult::Parent { child } => {
            hide();
            serve(child)
        }
    }
}

/// Makes the child a group of its own, in the foreground of the terminal if there is one: what is typed there is its.
fn lead() {
    // Neither fails for a fresh child of the session's leader, but the second does without a terminal.
    let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
    let _ = tcsetpgrp(std::io::stdin(), getpgrp());
}

/// Lets go of everything that the container's processes could use or see.
fn hide() {
    // SAFETY: nothing of this process uses a descriptor from here on but those that are opened below.
    unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
    // Whoever reads the program's output must see its end, and whoever writes its input that nobody reads it.
    if let Ok(null) = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()) {
        let _ = (dup2_stdin(&null), dup2_stdout(&null), dup2_stderr(&null));
    }
    let _ = nix::sys::prctl::set_name(NAME);
    let _ = nix::sys::prctl::set_dumpable(false);
    if let Some((start, end)) = fs::read_to_string(STAT).ok().and_then(|stat| arguments(&stat)) {
        rename(start, end);
    }
}

/// First and last address of the arguments this process was started with (proc_pid_stat(5), fields 48 and 49).
fn arguments(stat: &str) -> Option<(usize, usize)> {
    // The second field is the name, which may have anything in it; after it come the third and further ones.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(48 - 3);
    let (start, end) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    (start != 0 && start < end).then_some((start, end))
}

/// Overwrites the arguments, which name paths of the host.
fn rename(start: usize, end: usize) {
    let name = NAME.to_bytes_with_nul();
    let len = end - start;
    let kept = name.len().min(len);
    // SAFETY: the kernel says that these bytes of the stack are the arguments. It made them writable for this, nothing
    // moves them, and this process has read all it wants of them: it never looks at its arguments again.
    unsafe {
        let place = std::ptr::with_exposed_provenance_mut::<u8>(start);
        std::ptr::write_bytes(place, 0, len);
        std::ptr::copy_nonoverlapping(name.as_ptr(), place, kept);
    }
}

/// Passes signals on to `child` until it has ended, and ends with its code.
fn serve(child: Pid) -> ! {
    let all = SigSet::all();
    loop {
        let mut signal = 0;
        // SAFETY: both pointers are to live locals.
        if unsafe { libc::sigwait(all.as_ref(), &raw mut signal) } != 0 {
            continue;
        }
        if signal == libc::SIGCHLD {
            reap(child);
        } else {
            // SAFETY: kill takes no pointers. Not nix's, which knows no real-time signals. A child that is gone is
            // found by the SIGCHLD that follows.
            unsafe { libc::kill(child.as_raw(), signal) };
        }
    }
}

/// Takes the exit status of every process that has ended; with that of `child` this one ends.
fn reap(child: Pid) {
    loop {
        let mut status = 0;
        // SAFETY: the pointer is to a live local. Not nix's waitpid, which fails for an end by a real-time signal.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        match pid {
            // None is left that has ended, or none at all.
            0 | -1 => return,
            pid if pid != child.as_raw() => {}
            _ if libc::WIFEXITED(status) => exit(libc::WEXITSTATUS(status)),
            // As shells tell it: a first process can't end by a signal of its own.
            _ => exit(128 + libc::WTERMSIG(status)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_found_behind_any_name() {
        let fields: Vec<_> = (3..=52).map(|number| number.to_string()).collect();
        let stat = format!("7 (a) 1 (b) {}\n", fields.join(" "));
        assert_eq!(arguments(&stat), Some((48, 49)));
        assert_eq!(arguments(""), None);
        assert!(arguments(&fs::read_to_string(STAT).unwrap()).is_some());
    }
}
