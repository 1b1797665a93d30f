//! Why a command was not applied. Every reason names what it is about, and [`Rejection::kind`] tells a mistake,
//! a refusal, an absence and a conflict apart.

use hypercore_model::{
    Attempt, Ipv4Cidr, NodeId, TokenId, TokenName, WorkloadId, WorkloadName, spec::SpecError,
};

use crate::state::{TOKENS_MAX, command::COMMAND_BYTES_MAX, command::ClusterId, room::Resource};

/// The sort of a [`Rejection`]: what an exit code or a status code is chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectionKind {
    /// The command makes no sense by itself.
    Invalid,
    /// The author may not do this.
    Refused,
    /// Something it names does not exist.
    NotFound,
    /// It contradicts what is already agreed.
    Conflict,
}

/// Why a command was not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The encoded command is too long.
    #[error("the command is {bytes} bytes long; at most {COMMAND_BYTES_MAX} are allowed")]
    TooLarge {
        /// Its length in bytes.
        bytes: usize,
    },
    /// The workload's spec has mistakes: all of them.
    #[error("{}", join(.0))]
    Spec(Vec<SpecError>),
    /// No such signal.
    #[error("{0} is not a signal: it must be 1 to 64")]
    Signal(i32),
    /// A grace period that is too long.
    #[error("a grace period of {0} ms is too long: at most a day")]
    Grace(u64),
    /// A subnet that can't serve a node.
    #[error("the subnet {0} can't serve a node: its prefix must be 8 to 29 bits long")]
    SubnetSize(Ipv4Cidr),
    /// The cluster is not founded yet, and this command does not found it.
    #[error("there is no cluster yet: its first command must be a node admitting itself")]
    NotFounded,
    /// The command is for another cluster.
    #[error("the command is for another cluster")]
    OtherCluster {
        /// What it is for; `None` would found a new one.
        meant: Option<ClusterId>,
    },
    /// The author is not a member.
    #[error("node {} is not admitted to this cluster", .0.short())]
    NotAdmitted(NodeId),
    /// The command, or a later one of its author, was already applied.
    #[error("command {sequence} of node {} comes after its command {last}", .author.short())]
    Stale {
        /// Whose command.
        author: NodeId,
        /// Its number.
        sequence: u64,
        /// The number of the last one that was applied.
        last: u64,
    },
    /// The named node is not a member.
    #[error("there is no node {}", .0.short())]
    UnknownNode(NodeId),
    /// There is no such workload.
    #[error("there is no workload {0}")]
    UnknownWorkload(WorkloadId),
    /// The node is a member with another subnet.
    #[error("node {} was admitted with the subnet {admitted}, which can't become {asked}", .node.short())]
    NodeExists {
        /// Which node.
        node: NodeId,
        /// The subnet it has.
        admitted: Ipv4Cidr,
        /// The subnet that was asked for.
        asked: Ipv4Cidr,
    },
    /// The subnet overlaps another node's.
    #[error("the subnet {asked} overlaps {taken}, which node {} has", .by.short())]
    SubnetTaken {
        /// The subnet that was asked for.
        asked: Ipv4Cidr,
        /// The one it overlaps.
        taken: Ipv4Cidr,
        /// Whose that is.
        by: NodeId,
    },
    /// A workload with that id exists and is not the same.
    #[error("workload {0} exists already and is not the same")]
    WorkloadExists(WorkloadId),
    /// A workload with that id existed and was removed.
    #[error("workload {0} existed and was removed")]
    WorkloadRemoved(WorkloadId),
    /// Another workload has the name.
    #[error("the name {name} is taken by workload {}", .by.short())]
    NameTaken {
        /// The name.
        name: WorkloadName,
        /// Who has it.
        by: WorkloadId,
    },
    /// A token that allows nothing.
    #[error("a token needs a scope: read, run or admin")]
    TokenScopes,
    /// A token of one tenant that reaches beyond it.
    #[error("a token of one tenant can't have the scope admin, which reaches beyond tenants")]
    TokenTooWide,
    /// A token with that id exists and is not the same.
    #[error("token {0} exists already and is not the same")]
    TokenExists(TokenId),
    /// Another token has the name.
    #[error("the name {name} is taken by token {by}")]
    TokenNameTaken {
        /// The name.
        name: TokenName,
        /// Which token has it.
        by: TokenId,
    },
    /// There is no room for one more token.
    #[error("there are {TOKENS_MAX} tokens already; revoke some first")]
    TooManyTokens,
    /// The node has less left than the workload would reserve.
    #[error("the node has no room: {} of {what} asked for, {} of {} free", .what.show(*.asked), .what.show(*.free), .what.show(*.capacity))]
    NoRoom {
        /// What there is too little of: CPU in thousandths, memory in bytes.
        what: Resource,
        /// How much was asked for.
        asked: u64,
        /// How much is free.
        free: u64,
        /// How much there is in all.
        capacity: u64,
    },
    /// Only a node itself may say this.
    #[error("only node {} may say this, not node {}", .node.short(), .author.short())]
    NotItself {
        /// Who said it.
        author: NodeId,
        /// Whom it is about.
        node: NodeId,
    },
    /// The attempt is not the one that is wanted.
    #[error("workload {id} is at attempt {}, not {}", .current.number(), .attempt.number())]
    Superseded {
        /// Which workload.
        id: WorkloadId,
        /// What the command is about.
        attempt: Attempt,
        /// What is wanted.
        current: Attempt,
    },
    /// The workload has no time to live.
    #[error("workload {0} has no time to live")]
    NoTtl(WorkloadId),
}

impl Rejection {
    /// What sort of reason it is.
    #[must_use]
    pub const fn kind(&self) -> RejectionKind {
        match self {
            Self::TooLarge { .. }
            | Self::Spec(_)
            | Self::Signal(_)
            | Self::Grace(_)
            | Self::SubnetSize(_)
            | Self::TokenScopes
            | Self::TokenTooWide => RejectionKind::Invalid,
            Self::NotFounded
            | Self::OtherCluster { .. }
            | Self::NotAdmitted(_)
            | Self::TooManyTokens
            | Self::NoRoom { .. }
            | Self::NotItself { .. } => RejectionKind::Refused,
            Self::UnknownNode(_) | Self::UnknownWorkload(_) => RejectionKind::NotFound,
            Self::Stale { .. }
            | Self::NodeExists { .. }
            | Self::SubnetTaken { .. }
            | Self::WorkloadExists(_)
            | Self::WorkloadRemoved(_)
            | Self::NameTaken { .. }
            | Self::TokenExists(_)
            | Self::TokenNameTaken { .. }
            | Self::Superseded { .. }
            | Self::NoTtl(_) => RejectionKind::Conflict,
        }
    }
}

fn join(errors: &[SpecError]) -> String {
    errors.iter().map(SpecError::to_string).collect::<Vec<_>>().join("; ")
}
