//! The `hypercore` program: reads what was asked for, hands it over, and ends with the right exit code.
//!
//! ```text
//!   cli: arguments + HYPERCORE_*  -->  config: file + overrides  -->  command/<name>: raw -> validated -> API call
//!                                                                        |
//!                console: stdout for data, stderr for talk   <-----------+-----> session: terminal <-> workload
//!                                                                        |
//!                                   exit: the one table of exit codes <--+
//! ```
//!
//! Invariants:
//! - Data goes to stdout, everything else to stderr; bars and colours only where a terminal shows them.
//! - A command never guesses: its raw arguments become a validated request before anything is asked of the agent.
//! - Whatever happens, a terminal is left as it was found.
//!
//! Reading order: [`cli`], [`config`], [`command`], [`session`], [`exit`].

mod age;
mod cli;
mod command;
mod config;
mod console;
mod context;
mod exit;
mod failure;
mod point_in_time;
mod pull;
mod session;
mod signal;
mod startup;
mod table;
mod terminal;
mod view;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::parse() {
        Ok(cli) => command::execute(cli),
        Err(refused) => refused.report(),
    }
    .into()
}
