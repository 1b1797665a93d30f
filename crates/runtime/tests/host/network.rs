//! The network against the real kernel. Each test has a machine of its own: a network namespace that plays the host,
//! with another one outside of it, and private mounts. It refuses to touch the real host's interfaces and rules.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod isolation;
mod lab;
mod lifecycle;
mod ports;
mod rates;
mod recovery;
mod tenants;
