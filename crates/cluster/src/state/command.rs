//! What can be asked of the state, and how it is put under a signature.
//! It refuses to say whether a command is acceptable: that is `apply`'s answer.

use std::fmt;

use hypercore_model::{Attempt, Ipv4Cidr, NodeId, Timestamp, TokenId, WorkloadId, WorkloadSpec};
use hypercore_trust::{Context, Signed, Statement, TokenHash};
use serde::{Deserialize, Serialize};

use crate::state::record::TokenGrant;

use crate::state::room::Resources;

/// Longest encoded command, in bytes. Environment and arguments may together come near it; a block must still
/// travel in one piece.
pub const COMMAND_BYTES_MAX: usize = 1024 * 1024;

/// One intention. Variants are only ever added; the fields of one never change their meaning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Makes a node a member. The first command of all founds the cluster: the node admits itself.
    /// Repeated with the same subnet it has no effect.
    AdmitNode {
        /// Who is admitted.
        node: NodeId,
        /// The addresses its workloads get. No two nodes' subnets may overlap.
        subnet: Ipv4Cidr,
    },
    /// Makes a workload that shall run on `node`. Repeated with the same content it has no effect.
    CreateWorkload {
        /// Its identity, drawn by the caller.
        id: WorkloadId,
        /// What shall run.
        spec: Box<WorkloadSpec>,
        /// Where it shall run.
        node: NodeId,
    },
    /// Says that a workload shall no longer run. The record stays until it is removed.
    /// A later stop replaces an earlier one, so that an impatient person can shorten the grace period.
    StopWorkload {
        /// Which workload.
        id: WorkloadId,
        /// The signal that asks it to end; `None` is what its image says, or SIGTERM.
        signal: Option<i32>,
        /// How long it may take before it is killed, in milliseconds.
        grace_ms: u64,
    },
    /// Forgets a workload. Its node ends what still runs of it, and its name is free again.
    /// Repeated it has no effect.
    RemoveWorkload {
        /// Which workload.
        id: WorkloadId,
    },
    /// Lets whoever knows a secret call the API. Repeated with the same content it has no effect.
    CreateToken {
        /// Its identity, drawn by the caller.
        id: TokenId,
        /// What it allows to whom.
        grant: TokenGrant,
        /// The hash of its secret.
        hash: TokenHash,
    },
    /// Makes a token worth nothing, at once. Repeated it has no effect.
    RevokeToken {
        /// Which token.
        id: TokenId,
    },
    /// Says how much workloads may reserve of the author's own node. Repeated with the same amounts it has no effect.
    SetCapacity {
        /// The author.
        node: NodeId,
        /// What workloads may reserve in all.
        capacity: Resources,
    },
    /// Says that an attempt has ended for good, so that it reserves nothing any more. From the workload's own node.
    /// Repeated it has no effect.
    EndWorkload {
        /// Which workload.
        id: WorkloadId,
        /// Which attempt its node has seen the end of.
        attempt: Attempt,
    },
    /// Stops a workload whose time to live is over, by its own grace period. From the workload's own node, which alone
    /// knows how much time has really passed. It has no effect on one that was told to stop before.
    ExpireWorkload {
        /// Which workload.
        id: WorkloadId,
    },
}

/// A cluster's identity: the hash of the command that founded it. A command is for one cluster alone, so that
/// nothing signed for an earlier one can be played back to its successor.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClusterId(#[serde(with = "serde_bytes")] pub(crate) [u8; 32]);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterId({})", hex::encode(&self.0[..8]))
    }
}

/// A command as its author states it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthoredCommand {
    /// Which cluster it is for; `None` only in the command that founds one.
    pub cluster: Option<ClusterId>,
    /// The author's own count: each of its commands has a higher one than the last that was applied.
    pub sequence: u64,
    /// When the author says it was made.
    pub at: Timestamp,
    /// The intention.
    pub command: Command,
}

impl Statement for AuthoredCommand {
    const CONTEXT: Context = Context::new("hypercore/command/v1");
}

/// A command under its author's signature: what travels and is stored.
pub type SignedCommand = Signed<AuthoredCommand>;
