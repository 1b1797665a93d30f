//! The small process that owns one sandbox and outlives the agent, and the helper that does the heavy lifting for it.
//!
//! ```text
//!   agent --wire protocol--> hypercore-shim --spawns--> hypercore-engine (libcontainer)
//!                             resident, tiny              create | exec | delete, then ends
//!                                  ^----- one JSON report -----'
//! ```

pub mod engine;
pub mod process;
pub mod report;
pub mod resident;
pub mod terminal;
