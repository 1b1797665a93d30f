//! The descriptor that takes the report. It comes by number on the command line, so taking it is unsafe by nature.
//! It refuses numbers that aren't open, and keeps the descriptor out of the container.

#![allow(unsafe_code, reason = "a descriptor given by number can only be taken unsafely")]

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{BorrowedFd, FromRawFd},
};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::report::Report;

/// An open report descriptor.
#[derive(Debug)]
pub(crate) struct ReportFd(File);

/// Why nothing can be reported.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReportFdError {
    /// No such descriptor.
    #[error("the report descriptor {0} is not open")]
    NotOpen(i32, #[source] nix::Error),
    /// The shim doesn't listen any more.
    #[error("the report can't be written")]
    Write(#[source] io::Error),
}

impl ReportFd {
    /// Takes ownership of the descriptor `number`; call it once for a number.
    pub(crate) fn take(number: i32) -> Result<Self, ReportFdError> {
        // SAFETY: the borrow ends with this call, which only fails if the number isn't an open descriptor.
        let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
        fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))
            .map_err(|errno| ReportFdError::NotOpen(number, errno))?;
        // SAFETY: it is open, as was just seen, and it is ours: the shim opened it for us alone and nothing in this
        // process opened anything yet.
        Ok(Self(unsafe { File::from_raw_fd(number) }))
    }

    /// Writes the one line.
    pub(crate) fn write(mut self, report: &Report) -> Result<(), ReportFdError> {
        let mut line = serde_json::to_vec(report).map_err(|error| ReportFdError::Write(error.into()))?;
        line.push(b'\n');
        self.0.write_all(&line).map_err(ReportFdError::Write)
    }
}
