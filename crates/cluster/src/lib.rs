//! What the nodes of a cluster agree on, without a clock, a socket or a disk.
//!
//! ```text
//!   a node's intention                 state                              the agent
//!   Command --sign--> Signed --verify--> apply --> events  ------------>  reconcilers look again
//!                                          |                              ledger: rows into the store
//!                                          +-----> changes, block  ---->
//! ```
//!
//! Invariants:
//! - `apply` is deterministic: the same commands in the same order give the same state, the same rows, the same root.
//! - A rejected command changes nothing, and never becomes part of a block.
//! - Only what was said to be wanted lives here. What a node observes of its workloads does not.
//! - Time, randomness and messages come in as arguments.
//!
//! Reading order: [`state`] and what it lists.

pub mod state;

pub use state::{Command, State};
