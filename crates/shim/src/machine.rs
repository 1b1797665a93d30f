//! The engine of microVMs: for the shim it is what `hypercore-engine` is for containers, with the same command line and
//! the same report. Its processes are stand-ins for those in the guest.
//!
//! ```text
//!   shim --create--> monitor --starts--> QEMU | Firecracker | Cloud Hypervisor
//!     | streams,        |  \__ serial port or vsock __ guest agent __ first process
//!     | signals, exit   |
//!     |                 +-- machine.sock: one connection to the guest, shared by all
//!     +--exec-----> stand-in --'                        guest agent __ executed process
//! ```
//!
//! A stand-in's standard streams, signals and exit status are those of the process that it stands for. So the shim holds
//! a microVM as it holds a container: the log, attached terminals, `exit.json` and the agent's restarts are one code.
//!
//! Invariants:
//! - The monitor is the parent of the machine, which the kernel kills with it: a machine never outlives its stand-in.
//! - What came with the machine's specification is in memory of this process and in the guest, and nowhere else.
//! - A guest is believed nothing: its frames are bounded, its output is only copied, its end has a deadline.
//!
//! Reading order: `monitor`, `relay`, `exchange`, `vmm`, then the engines.

mod api;
mod boot;
mod cloud_hypervisor;
mod disks;
mod end_note;
mod exchange;
mod firecracker;
mod http;
mod monitor;
mod network;
mod peer;
mod probe;
mod qemu;
mod relay;
#[cfg(test)]
mod sample;
mod shares;
mod signals;
mod snapshot;
mod socket;
mod sparse;
mod standin;
mod streams;
mod vmm;
mod vsock;

use std::{ffi::OsString, process::ExitCode};

use crate::engine::{
    self,
    arguments::{Action, Arguments},
};

/// Runs `hypercore-vmm` with the arguments after the program's name. It ends as the process in the guest does; before
/// that, exit codes are those of [`crate::engine::run`].
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mut arguments = arguments.peekable();
    // The one thing that no engine of containers does.
    if arguments.next_if(|action| action == "probe").is_some() {
        return probe::run(arguments);
    }
    let Arguments { container, action } = match Arguments::parse(arguments) {
        Ok(arguments) => arguments,
        Err(error) => return engine::complain(2, &error),
    };
    match action {
        // What a container has in its bundle, a machine has in memory.
        Action::Create { bundle: _, report_fd, console_socket } => {
            monitor::run(&container, report_fd, console_socket.as_deref())
        }
        Action::Exec { process, report_fd, console_socket } => {
            standin::run(&container, &process, report_fd, console_socket.as_deref())
        }
        Action::Delete => match monitor::delete(&container) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => engine::complain(1, &error),
        },
    }
}
