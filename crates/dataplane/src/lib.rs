//! The front door for HTTP: takes requests by host name to the workloads that answer for it.
//!
//! ```text
//!   listener --> TLS (tls) --> guard: strict HTTP/1 framing, deadlines --> hyper
//!                                                                           |
//!        page: 404, 502, 503, 504  <---  proxy: check, route, rewrite  <----+
//!                                          |            ^
//!                                          v            | routes: written by the agent, read without a lock
//!                                        upstream: kept connections --> Connector (supplied by the agent)
//! ```
//!
//! Invariants:
//! - What a client sends is read in one way only: whatever two parsers could disagree on is refused, not mended.
//! - A body is never held: bytes are read from one side as fast as the other takes them.
//! - Everything a client can make us keep has a bound and a deadline.
//! - A route that goes takes no new requests from that moment on; those under way have until the drain deadline.
//!
//! It refuses to know what a workload is: the agent writes the routes, and reaches the backends.
//!
//! Reading order: [`config`], [`routes`], [`server`], `proxy`, `upstream`, `guard`, [`tls`].

pub mod acme;
pub mod config;
pub mod connector;
pub mod host;
pub mod routes;
pub mod server;
pub mod tls;

mod access;
mod body;
mod guard;
mod page;
mod proxy;
mod request_id;
mod tasks;
mod upstream;

pub use body::ResponseBody;
pub use config::IngressConfig;
pub use connector::{Connector, TcpConnector};
pub use host::HostName;
pub use routes::{Backend, Route, RouteState, Routes};
pub use server::{Entrance, Ingress, LocalPages, Visit};
