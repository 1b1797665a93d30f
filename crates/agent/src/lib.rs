//! The node: it makes its machine match what the state says should run, and answers the API.
//!
//! ```text
//!   gRPC (server/)            metrics, health (http)
//!      | submit   ^ read          ^
//!      v          |               |
//!   ledger ----- state         board: what was observed, per workload
//!      | changed                  ^
//!      v                          |
//!   reconcile/workloads  --->  keeper, one per workload  --->  runtime: image, bundle, network, sandbox
//!   reconcile/sweep      --->  whatever no workload owns
//! ```
//!
//! Invariants:
//! - What should run lives in the ledger and nowhere else; what does run lives in shims, directories and the board.
//! - Reconcilers take no input: they read the whole intended state again, so that a start, a restart after
//!   `kill -9` and a failover are one path.
//! - The agent's end is not a workload's end: nothing here is the parent of a workload's process.
//! - Every task is spawned by the supervisor, with a name.
//!
//! Reading order: [`config`], `node` (how it is put together), `ledger`, `board`, `keeper`, `reconcile`, `server`.

pub mod config;

mod access;
mod admission;
mod board;
mod certificates;
mod clock;
mod directory;
mod down;
mod events;
mod failure;
mod forks;
mod gone;
mod http;
mod images;
mod ingress;
mod keeper;
mod ledger;
mod listeners;
mod machines;
mod memory;
mod metrics;
mod node;
mod prefix;
mod programs;
mod reconcile;
mod server;
mod supervisor;
mod watchdog;

pub use config::{AgentConfig, TlsFiles};
pub use down::{DownConfig, DownError, down};
pub use failure::chain;
pub use hypercore_dataplane::HostName;
pub use hypercore_runtime::machine::{find_file_server, initramfs::InitramfsError};
pub use ingress::{IngressError, IngressSettings, IngressTls};
pub use listeners::{ListenError, Listeners};
pub use machines::{
    Choice, FoundMonitor, KvmFault, MachineSettings, MonitorError, NoEngine, Survey, SurveyPlaces,
    SurveyedEngine, find_kernel, find_monitor, survey,
};
pub use node::{RunError, run};
pub use programs::find_program;
