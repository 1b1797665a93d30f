//! What the state keeps of each thing: the records behind the rows.
//! Fields are only ever added, each with a default, or the row's version grows.

use hypercore_model::{Attempt, Ipv4Cidr, NodeId, Timestamp, WorkloadId, WorkloadSpec};
use serde::{Deserialize, Serialize};

use crate::state::command::ClusterId;

/// How the cluster came to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRecord {
    /// The cluster's identity.
    pub id: ClusterId,
    /// The node that founded it.
    pub founder: NodeId,
    /// When, by the founder's clock.
    pub founded_at: Timestamp,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// The addresses its workloads get.
    pub subnet: Ipv4Cidr,
    /// When it was admitted, by the admitting author's clock.
    pub admitted_at: Timestamp,
    /// The sequence number of the last of its commands that was applied; 0 before the first.
    pub sequence: u64,
}

/// What a workload shall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Desired {
    /// It shall run, until it ends by itself.
    Running,
    /// It shall not run.
    Stopped {
        /// The signal that asks it to end; `None` is what its image says, or SIGTERM.
        signal: Option<i32>,
        /// How long it may take before it is killed, in milliseconds.
        grace_ms: u64,
    },
}

/// A workload that somebody wants, or wanted and has not removed yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadRecord {
    /// Its identity.
    pub id: WorkloadId,
    /// What shall run.
    pub spec: WorkloadSpec,
    /// Where.
    pub node: NodeId,
    /// Which try this is. It never falls.
    pub attempt: Attempt,
    /// Whether it shall run.
    pub desired: Desired,
    /// Who asked for it.
    pub author: NodeId,
    /// When, by the author's clock.
    pub created_at: Timestamp,
}
