//! Everything a workload needs on its node: images, bundles, networks, sandboxes, logs.
//!
//! ```text
//!   registry / archive                       agent's reconcilers
//!          |                                        |
//!       image  --layers-->  bundle  <--netns--   network        cgroup: limits, usage, sweep
//!                              |                                  |
//!                              +-------->  sandbox  <-------------+
//!                                             |  wire protocol over shim/<id>.sock
//!                                          the shim  ---> log/ (read back by log)
//! ```
//!
//! Invariants:
//! - Nothing here decides what should run; every call makes one wanted thing true or says which step failed.
//! - Every resource is named after its workload, so that whatever a crash leaves behind can be found and swept.
//! - Bytes from registries and archives are untrusted until their digest was checked, and paths from them until
//!   they were resolved below the root they belong to.
//!
//! Reading order: [`image`], [`volume`], [`bundle`], [`network`], [`cgroup`], [`sandbox`], [`log`], [`machine`].

pub mod bundle;
pub mod cgroup;
pub mod image;
pub mod log;
pub mod machine;
pub mod network;
pub mod sandbox;
pub mod volume;
