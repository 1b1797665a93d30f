//! The engine on real containers: what runs, with which rights, and that nothing is left.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod delete;
mod exec;
mod hostile;
mod identity;
mod init;
mod limits;
pub(crate) mod machine;
mod mounts;
mod rights;
mod start;
mod terminal;
mod user_namespace;

use self::machine::Machine;
