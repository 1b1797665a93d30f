//! The engine: one short-lived process per container made, joined or deleted, around `libcontainer`.
//!
//! ```text
//!   shim -- create --> engine -- clone --> intermediate -- clone --> init of the container
//!                        |     (joins the cgroups)      (namespaces, mounts, then this crate's Launcher:
//!                        |                               find the program, seccomp, execve)
//!                        <-------- verdict: closed by execve, or why it failed --------'
//!        <-- report -----'  and the engine ends: the shim, a subreaper, becomes the parent
//! ```
//!
//! It is a process of its own because `libcontainer` forks, blocks, and changes its caller's directory, dumpability and
//! OOM score. The container's standard streams are the engine's own 0, 1 and 2; nothing else is inherited.
//!
//! It refuses to leave something behind: what a failed `create` made is gone when the report is written.

mod accounts;
pub(crate) mod arguments;
pub(crate) mod cgroup;
mod children;
mod create;
mod delete;
mod entry;
mod exec;
mod fork;
mod init;
mod inside;
mod launcher;
mod mapped;
mod overlay;
mod own_program;
mod program;
pub(crate) mod report_fd;
mod seccomp;
mod signals;
mod stage;
mod tree;
mod user_namespace;
mod verdict;

use std::{error::Error, ffi::OsString, io::Write, path::PathBuf, process::ExitCode};

use self::{
    arguments::{Action, Arguments},
    report_fd::ReportFd,
};
use crate::report::{Failure, FailureCode, Report};

/// Where one container's files are.
#[derive(Debug, Clone)]
pub(crate) struct Container {
    /// The directory of all containers of this node.
    pub(crate) root: PathBuf,
    /// The container's name in it; safe as a file name.
    pub(crate) id: String,
}

impl Container {
    /// The container's own directory, made by `create` and removed by `delete`.
    pub(crate) fn directory(&self) -> PathBuf {
        self.root.join(&self.id)
    }
}

/// Runs `hypercore-engine` with the arguments after the program's name.
/// Exit codes: 0 done, 1 failed (the report says why; for `delete` standard error does), 2 wrong usage.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mut arguments = arguments.peekable();
    if arguments.peek().is_some_and(|action| action == "overlay") {
        return match overlay::overlay() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(1, &error),
        };
    }
    let Arguments { container, action } = match Arguments::parse(arguments) {
        Ok(arguments) => arguments,
        Err(error) => return complain(2, &error),
    };
    match action {
        Action::Create { bundle, report_fd, console_socket } => {
            answer(report_fd, || create::create(&container, &bundle, console_socket, report_fd))
        }
        Action::Exec { process, report_fd, console_socket } => {
            answer(report_fd, || exec::exec(&container, &process, console_socket, report_fd))
        }
        Action::Delete => match delete::delete(&container) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(1, &error),
        },
    }
}

/// Does the work and reports its outcome. Without a way to report nothing is begun.
fn answer(report_fd: i32, work: impl FnOnce() -> Result<i32, Failure>) -> ExitCode {
    let report_fd = match ReportFd::take(report_fd) {
        Ok(report_fd) => report_fd,
        Err(error) => return complain(2, &error),
    };
    let outcome = work();
    let code = if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    match report_fd.write(&outcome.map_or_else(Report::Error, Report::Pid)) {
        Ok(()) => code,
        Err(error) => complain(1, &error),
    }
}

pub(crate) fn complain(code: u8, error: &dyn Error) -> ExitCode {
    // Nobody is left to tell if standard error is closed.
    let _ = writeln!(std::io::stderr(), "hypercore-engine: {}", chain(error));
    ExitCode::from(code)
}

/// An error and what caused it, in one line, without saying twice what a wrapper only repeats.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// A failure of the engine or the kernel, told as `doing: error: its causes`.
pub(crate) fn engine_failure(doing: &str, error: &dyn Error) -> Failure {
    Failure { code: FailureCode::Engine, message: format!("{doing}: {}", chain(error)) }
}
