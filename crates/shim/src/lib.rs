//! The small process that owns one sandbox and outlives the agent, and the helper that does the heavy lifting for it.
//!
//! ```text
//!   agent --wire protocol--> hypercore-shim --spawns--> hypercore-engine (libcontainer)
//!                             resident, tiny              create | exec | delete, then ends
//!                                  ^----- one JSON report -----'
//! ```
//!
//! Invariants:
//! - The resident shim never links `libcontainer`, starts no thread, and asks nothing of the agent.
//! - What the engine starts becomes the shim's child when the engine ends: the shim alone reaps it.
//! - The two meet in what this file lists beside them: the report, the request for an execution, a terminal's size.
//!
//! Reading order: [`report`], [`process`], [`resident`], [`engine`], [`machine`].

pub mod engine;
pub mod machine;
pub mod process;
pub mod report;
pub mod resident;
pub mod terminal;
