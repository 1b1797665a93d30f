//! The words of Hypercore: the types that every other crate speaks in.
//!
//! ```text
//!   text from people and peers          this crate                what the house passes around
//!   "web:1"  "0.5"  "256MiB"   --->   parse + validate   --->   ImageReference, CpuMillis, MemoryBytes
//! ```
//!
//! Invariants:
//! - A value of any type here is valid: the constructor is the check, and deserializing runs it too.
//! - Nothing here reads a clock, a file, a socket or a random number; those come in as arguments.
//! - Units stand last in names (`memory_bytes`, `created_at_ms`); limits are named `*_MAX`.
//!
//! Reading order: [`id`], [`name`], [`units`], [`image`], [`port`], [`mount`], [`restart`], [`tenant`], then [`spec`] which joins them,
//! then [`lifecycle`] for what can happen to a workload; [`token`] is about who asks.

pub mod capability;
pub mod cidr;
pub mod exit;
pub mod id;
pub mod image;
pub mod io_limits;
pub mod lifecycle;
pub mod limits;
pub mod machine;
pub mod mount;
pub mod name;
pub mod port;
pub mod restart;
pub mod spec;
pub mod tenant;
pub mod timestamp;
pub mod token;
pub mod ulimit;
pub mod units;
pub mod user;

mod text;

pub use capability::Capability;
pub use cidr::Ipv4Cidr;
pub use exit::{ExitRecord, ExitStatus};
pub use id::{Attempt, NodeId, WorkloadId};
pub use image::{Digest, ImageReference};
pub use io_limits::IoLimits;
pub use lifecycle::WorkloadStatus;
pub use mount::{Mount, MountSource, VolumeName};
pub use name::{SnapshotName, WorkloadName};
pub use port::{PortMapping, PortProtocol};
pub use restart::RestartPolicy;
pub use spec::{Isolation, WorkloadSpec};
pub use tenant::{Allowance, TenantName};
pub use timestamp::Timestamp;
pub use token::{Scope, TokenId, TokenName};
pub use ulimit::Ulimit;
pub use units::{CpuMillis, MemoryBytes};
