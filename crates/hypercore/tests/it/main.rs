//! The program as its users and their scripts meet it: run as a process, against an agent that answers from a script.
//! The agent here is a fake on purpose: what is tested is arguments, output and exit codes. The real agent is tested
//! in `tests/host`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod config;
mod end;
mod fake;
mod help;
mod list;
mod node;
mod program;
mod restore;
mod run;
mod screen;
mod session;
mod terminal;
mod token;
mod usage;

/// Runs the program to its end with these arguments and no agent to speak to.
fn run(arguments: impl IntoIterator<Item = impl AsRef<std::ffi::OsStr>>) -> program::Ended {
    program::finish(program::hypercore().args(arguments), b"")
}
