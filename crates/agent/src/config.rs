//! What a node needs to be told, already parsed. Reading files and flags is the command line's work.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use crate::{ingress::IngressSettings, machines::MachineSettings};

/// Everything that distinguishes one node from another on the same machine.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Where the node keeps what must survive a reboot; made with mode 0700.
    pub data_directory: PathBuf,
    /// Where sockets and other things of this boot live; made with mode 0700.
    pub runtime_directory: PathBuf,
    /// Where workloads are served by host name, and `/metrics`, `/healthz` and `/readyz` for all other hosts; `None`
    /// serves them nowhere.
    pub http_listen: Option<SocketAddr>,
    /// Where and how workloads are served to the world.
    pub ingress: IngressSettings,
    /// Where the gRPC API is served with TLS to callers with tokens; `None` serves it on the Unix socket alone.
    pub grpc_listen: Option<SocketAddr>,
    /// What it is served with there; `None` is a certificate of the node's own authority.
    pub grpc_certificate: Option<TlsFiles>,
    /// The network that workloads get their addresses from, such as `172.16.0.0/16`.
    pub cidr: String,
    /// Their IPv6 prefix: `auto` (the node's own, where the host has IPv6), `off`, or one such as `fd12:3456:789a:1::/64`.
    pub cidr6: String,
    /// The bridge that joins them; also names the node's nft table and cgroups, so it is unique on the machine.
    pub bridge: String,
    /// Registries to ask before the one an image names, in order.
    pub registry_mirrors: Vec<String>,
    /// Registries that may be spoken to without TLS.
    pub insecure_registries: Vec<String>,
    /// Public keys (PEM files) that images must be signed with; none demands no signatures.
    pub verify_keys: Vec<PathBuf>,
    /// Above this part of the disk of the data directory, in percent, unused images are removed,
    pub image_gc_high_percent: u8,
    /// until at most this part of it is used.
    pub image_gc_low_percent: u8,
    /// How long the logs and the last word on a removed workload are kept.
    pub records_keep: Duration,
    /// What microVMs run with.
    pub machines: MachineSettings,
    /// Flush each committed command to the disk before it is acknowledged.
    pub fsync: bool,
    /// Keep the state in memory alone: everything intended is forgotten when the agent ends.
    pub in_memory: bool,
}

/// A certificate that somebody else makes and replaces, in files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain in PEM, the server's own certificate first.
    pub certificate: PathBuf,
    /// The private key in PEM.
    pub key: PathBuf,
}
