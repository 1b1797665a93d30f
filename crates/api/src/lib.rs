//! The contracts of Hypercore's gRPC API: generated types, service traits, the client, and the errors.
//!
//! ```text
//!   proto/hypercore/v1  --build.rs-->  v1: messages, stubs, traits
//!                                        |            |
//!             client: one method per call             the agent implements the traits
//!                                        |            |
//!                  error::ApiError  <-- gRPC status --+   (one vocabulary of failures on both sides)
//! ```
//!
//! Invariants:
//! - Field numbers are never reused, messages only grow.
//! - A failed call always tells its class, a stable code and, where somebody knows, what to do about it.
//!
//! Reading order: the proto file, [`error`], [`convert`], [`client`].

pub mod client;
pub mod convert;
pub mod error;
pub mod v1;

pub use client::{Client, Endpoint};
pub use error::{ApiError, ErrorKind};
