//! What the state keeps of each thing: the records behind the rows.
//! Fields are only ever added, each with a default, or the row's version grows.

use std::collections::BTreeSet;

use hypercore_model::{
    Attempt, Ipv4Cidr, NodeId, Scope, TenantName, Timestamp, TokenId, TokenName, WorkloadId, WorkloadSpec,
};
use hypercore_trust::TokenHash;
use serde::{Deserialize, Serialize};

use crate::state::{command::ClusterId, room::Resources};

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
    /// What workloads may reserve of it in all; `None` until it has said so, and then nothing is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Resources>,
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
    /// Whether its node has seen its last end: it reserves nothing any more. Until then also a stopped one does, for
    /// its processes may still be there.
    #[serde(default, skip_serializing_if = "is_false")]
    pub ended: bool,
    /// Whether it was stopped because its time to live was over.
    #[serde(default, skip_serializing_if = "is_false")]
    pub expired: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

/// What a token allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenGrant {
    /// What people call the token; unique among tokens.
    pub name: Option<TokenName>,
    /// What its holder may do; at least one.
    pub scopes: BTreeSet<Scope>,
    /// Whose workloads it is about; `None` is everybody's.
    pub tenant: Option<TenantName>,
    /// From when on it is worth nothing; `None` is never.
    pub expires_at: Option<Timestamp>,
}

/// Somebody who may call the API over the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Its identity.
    pub id: TokenId,
    /// What it allows.
    pub grant: TokenGrant,
    /// The hash of its secret.
    pub hash: TokenHash,
    /// When it was made, by the author's clock.
    pub created_at: Timestamp,
}

impl TokenGrant {
    /// The most its holder may do.
    #[must_use]
    pub fn scope(&self) -> Option<Scope> {
        self.scopes.last().copied()
    }

    /// Whether it was worth something until before `now`, and isn't any more.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}
