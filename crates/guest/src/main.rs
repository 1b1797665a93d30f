//! PID 1 inside a microVM. It makes a bare kernel into the machine of one workload, and runs what the host asks for.
//!
//! ```text
//!   host --virtio-serial port "hypercore.guest"--> link --+
//!   host --vsock port 9999-----------------------> link --+--> session: one message at a time
//!                                                              |  Prepare --> root, network, clock, entropy
//!                                                              |  Exec -----> execution: process + pumps
//!                                                              |  CopyFiles -> copy: files as a tar stream
//!   SIGCHLD, waitpid --> reaper --------- how it ended --------+--> ExecExited
//! ```
//!
//! Plain threads, because there are few and they mostly wait: one for each connection, three for each process.
//!
//! Invariants:
//! - The agent stays in the initramfs; the workload's processes are chrooted into the image and live in a pid
//!   namespace whose first process is the workload's own. The boundary is the machine around both.
//! - Nothing that is secret comes by the kernel's command line or lies on a disk of the host: it comes with `Exec`.
//! - Whatever the host sends, memory stays bounded: frames, executions and what is under way for each are limited.
//! - When the agent panics the kernel does too, and the machine ends: no machine goes on without its agent.
//!
//! Reading order: `boot`, `session`, `prepare`, `execution`, then the parts.

mod account;
mod boot;
mod cgroup;
mod connections;
mod copy;
mod entropy;
mod execution;
mod freeze;
mod hints;
mod identity;
mod inside;
mod link;
mod network;
mod oneshot;
mod outlet;
mod output;
mod prepare;
mod process;
mod reaper;
mod root;
mod session;
mod stats;
mod vsock;

use std::{process::ExitCode, sync::Arc, thread};

use crate::{reaper::Reaper, session::Machine};

/// The release this program was built as.
const RELEASE: &str = env!("CARGO_PKG_VERSION");

fn main() -> ExitCode {
    if std::process::id() != 1 {
        boot::complain("hypercore-guest is the first process of a microVM; it does nothing elsewhere");
        return ExitCode::from(2);
    }
    if let Err(error) = boot::begin() {
        boot::complain(&format!("the machine can't be made ready: {error}"));
        return ExitCode::FAILURE;
    }
    let reaper = Arc::new(Reaper::default());
    let machine = Arc::new(Machine::new(Arc::clone(&reaper)));
    let (by_vsock, by_port) = (Arc::clone(&machine), machine);
    thread::spawn(move || vsock::serve(&by_vsock));
    thread::spawn(move || boot::serve_port(&by_port));
    reaper.reap_forever()
}
