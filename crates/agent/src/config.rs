//! What a node needs to be told, already parsed. Reading files and flags is the command line's work.

use std::{net::SocketAddr, path::PathBuf};

/// Everything that distinguishes one node from another on the same machine.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Where the node keeps what must survive a reboot; made with mode 0700.
    pub data_directory: PathBuf,
    /// Where sockets and other things of this boot live; made with mode 0700.
    pub runtime_directory: PathBuf,
    /// Where `/metrics`, `/healthz` and `/readyz` are served; `None` serves them nowhere.
    pub http_listen: Option<SocketAddr>,
    /// The network that workloads get their addresses from, such as `172.16.0.0/16`.
    pub cidr: String,
    /// The bridge that joins them; also names the node's nft table and cgroups, so it is unique on the machine.
    pub bridge: String,
    /// Registries to ask before the one an image names, in order.
    pub registry_mirrors: Vec<String>,
    /// Registries that may be spoken to without TLS.
    pub insecure_registries: Vec<String>,
    /// Flush each committed command to the disk before it is acknowledged.
    pub fsync: bool,
    /// Keep the state in memory alone: everything intended is forgotten when the agent ends.
    pub in_memory: bool,
}
