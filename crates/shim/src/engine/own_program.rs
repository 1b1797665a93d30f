//! The engine's own program, out of reach of a container.
//!
//! As long as the engine is a process of a container, `/proc/<pid>/exe` leads from there to the engine's file on the
//! host, for whoever may trace it; that file could be opened, and written to once the engine has ended (CVE-2019-5736).
//! The engine can't be traced while it works, but for containers with CAP_SYS_PTRACE, and but for the init that stays.
//! For those it is started again from a read-only mount of that one file, which nobody else sees and which no system
//! call that containers are allowed can change.

#![allow(unsafe_code, reason = "a descriptor given by number can only be borrowed unsafely")]

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd, BorrowedFd},
        unix::ffi::OsStringExt,
    },
};

use libcontainer::oci_spec::runtime::{Capability, Process};
use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::statvfs::{FsFlags, statvfs},
    unistd::execve,
};

use super::tree::Tree;

/// This process's program, whatever it is called.
const SELF: &str = "/proc/self/exe";

/// Whether a container with this process may trace the engine.
pub(super) fn may_be_traced(process: &Process) -> bool {
    let bounding = process.capabilities().as_ref().and_then(|all| all.bounding().clone());
    bounding.is_some_and(|bounding| bounding.contains(&Capability::SysPtrace))
}

/// Returns when this process runs from a read-only mount: at once, or in a new run of the program with the same
/// arguments, which keeps the descriptor `keep`.
///
/// # Errors
/// The kernel refused the mount or the new run.
pub(super) fn protect(keep: i32) -> io::Result<()> {
    if statvfs(SELF)?.flags().contains(FsFlags::ST_RDONLY) {
        return Ok(());
    }
    // A mount of the program's file alone, attached nowhere: it lives as long as somebody runs it.
    let program = Tree::copy(&std::fs::read_link(SELF)?)?;
    program.freeze()?;
    // SAFETY: the borrow ends with this call, and the caller has the descriptor open.
    fcntl(unsafe { BorrowedFd::borrow_raw(keep) }, FcntlArg::F_SETFD(FdFlag::empty()))?;
    let path = CString::new(format!("/proc/self/fd/{}", program.as_raw_fd()))?;
    let text = |text: std::ffi::OsString| CString::new(text.into_vec());
    let arguments = std::env::args_os().map(text).collect::<Result<Vec<_>, _>>()?;
    match execve(&path, &arguments, &Vec::<CString>::new()) {
        Err(errno) => Err(errno.into()),
        Ok(never) => match never {},
    }
}
