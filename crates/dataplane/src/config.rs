//! What the ingress is told: its domain, and the bounds of everything that a client can make it keep.

use std::time::Duration;

use crate::host::HostName;

/// Settings of the ingress. [`IngressConfig::new`] gives bounds that suit the public internet.
#[derive(Debug, Clone)]
pub struct IngressConfig {
    /// Workloads are found at `<id or name>.<base domain>`.
    pub base_domain: HostName,
    /// Bounds on sizes and counts.
    pub limits: Limits,
    /// Bounds on time.
    pub timeouts: Timeouts,
    /// Whether each answered request becomes an event of the target `hypercore::access`.
    pub access_log: bool,
}

impl IngressConfig {
    /// The usual bounds, with the access log on.
    #[must_use]
    pub fn new(base_domain: HostName) -> Self {
        Self { base_domain, limits: Limits::default(), timeouts: Timeouts::default(), access_log: true }
    }
}

/// Bounds on what one client can make us keep.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections that are open at once; more wait in the socket's backlog.
    pub connections_max: usize,
    /// Requests on one connection before its client is asked to make another.
    pub requests_per_connection_max: usize,
    /// Requests under way at once on one HTTP/2 connection.
    pub streams_per_connection_max: u32,
    /// Size of a request's head, in bytes. At least 8192.
    pub head_bytes_max: usize,
    /// Header lines of one request.
    pub headers_max: usize,
    /// Length of path and query, in bytes.
    pub target_bytes_max: usize,
    /// Unused connections that are kept to one backend.
    pub idle_per_backend_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            requests_per_connection_max: 100_000,
            streams_per_connection_max: 128,
            head_bytes_max: 32 * 1024,
            headers_max: 100,
            target_bytes_max: 8 * 1024,
            idle_per_backend_max: 64,
        }
    }
}

/// How long things may take.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// From the first byte of a request's head, or of a TLS handshake, to its last.
    pub head: Duration,
    /// A connection without a request.
    pub keep_alive: Duration,
    /// Making a connection to a backend.
    pub connect: Duration,
    /// From the request to the head of the backend's answer.
    pub response: Duration,
    /// A body of which nothing moves, in either direction.
    pub body_idle: Duration,
    /// A WebSocket on which nothing moves.
    pub tunnel_idle: Duration,
    /// An unused connection to a backend. Shorter than what common servers allow (node: 5 s), so that they rarely
    /// close what is about to be used.
    pub upstream_idle: Duration,
    /// What requests under way get when their route goes, or the ingress does.
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            keep_alive: Duration::from_secs(60),
            connect: Duration::from_secs(5),
            response: Duration::from_secs(60),
            body_idle: Duration::from_secs(60),
            tunnel_idle: Duration::from_secs(60 * 60),
            upstream_idle: Duration::from_secs(4),
            drain: Duration::from_secs(30),
        }
    }
}
