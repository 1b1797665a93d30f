//! What an execution inside a running workload asks for: the file that the shim hands to `hypercore-engine exec`.
//! It refuses to name privileges: capabilities, limits and the seccomp profile are those of the workload itself.

use serde::{Deserialize, Serialize};

use crate::terminal::TerminalSize;

/// One process to start inside a running workload. What isn't given is as for the workload's first process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessRequest {
    /// The program and its arguments; the program is looked up in `PATH` inside the rootfs.
    pub argv: Vec<String>,
    /// `KEY=VALUE`, added to the environment of the first process; same keys replace.
    #[serde(default)]
    pub env: Vec<String>,
    /// `name|uid[:group|gid]`, looked up inside the rootfs.
    #[serde(default)]
    pub user: Option<String>,
    /// Working directory inside, absolute.
    #[serde(default)]
    pub workdir: Option<String>,
    /// Give the process a terminal of its own, whose master is sent over the console socket.
    #[serde(default)]
    pub tty: bool,
    /// The terminal's size at the beginning.
    #[serde(default)]
    pub size: Option<TerminalSize>,
}
