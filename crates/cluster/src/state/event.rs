//! What a command has changed, for those who want to know without comparing states.
//! An event is a hint to look at the state again, never the state itself.

use hypercore_model::{Ipv4Cidr, NodeId, TokenId, WorkloadId};

/// One thing that happened when a command was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A cluster came to be.
    ClusterFounded {
        /// By whom.
        founder: NodeId,
    },
    /// A node became a member.
    NodeAdmitted {
        /// Which node.
        node: NodeId,
        /// The subnet it was given.
        subnet: Ipv4Cidr,
    },
    /// A workload is wanted.
    WorkloadCreated {
        /// Which workload.
        id: WorkloadId,
        /// Where it shall run.
        node: NodeId,
    },
    /// A workload shall no longer run.
    WorkloadStopAsked {
        /// Which workload.
        id: WorkloadId,
        /// Where it runs.
        node: NodeId,
    },
    /// A node's capacity is another.
    CapacitySet {
        /// Which node.
        node: NodeId,
    },
    /// A workload has ended for good.
    WorkloadEnded {
        /// Which workload.
        id: WorkloadId,
        /// Where it ran.
        node: NodeId,
    },
    /// A workload was forgotten.
    WorkloadRemoved {
        /// Which workload.
        id: WorkloadId,
        /// Where it was.
        node: NodeId,
    },
    /// Somebody more may call the API.
    TokenCreated {
        /// Which token.
        id: TokenId,
    },
    /// A token is worth nothing any more.
    TokenRevoked {
        /// Which token.
        id: TokenId,
    },
}
