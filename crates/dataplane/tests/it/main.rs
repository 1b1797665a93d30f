//! The ingress against real sockets: backends in this process, clients that speak well, and clients that don't.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod acme;
mod acme_server;
mod drain;
mod hostile;
mod http2;
mod limits;
mod plain;
mod tls;
mod websocket;
mod world;
