//! How the state is stored: one row per record, in named tables. It refuses rows of a version it doesn't know.
//!
//! A row's value is one version byte and the record in CBOR. Keys have a fixed length per table, so that a root over
//! `table, key, digest` needs no separators.

use std::{fmt, sync::Arc};

use hypercore_model::{NodeId, TokenId, WorkloadId};
use serde::{Serialize, de::DeserializeOwned};

use crate::state::{
    block::Tip,
    record::{ClusterRecord, NodeRecord, TokenRecord, WorkloadRecord},
};

/// The version of every row this release writes.
const ROW_VERSION: u8 = 1;

/// Where a row lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// The last block's place in the chain. Not part of the root, which it contains.
    Tip,
    /// How the cluster came to be: one row.
    Cluster,
    /// Members, by node id.
    Nodes,
    /// Workloads, by workload id.
    Workloads,
    /// Removed workloads, by the height of their removal and their id.
    Removals,
    /// API tokens, by token id.
    Tokens,
}

impl Table {
    /// Every table, in the order in which they enter the root.
    pub const ALL: [Self; 6] =
        [Self::Tip, Self::Cluster, Self::Nodes, Self::Workloads, Self::Removals, Self::Tokens];

    /// The table's name in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tip => "state/tip",
            Self::Cluster => "state/cluster",
            Self::Nodes => "state/nodes",
            Self::Workloads => "state/workloads",
            Self::Removals => "state/removals",
            Self::Tokens => "state/tokens",
        }
    }

    /// The table's mark in the root. Never reused.
    pub(crate) const fn tag(self) -> u8 {
        match self {
            Self::Tip => 0,
            Self::Cluster => 1,
            Self::Nodes => 2,
            Self::Workloads => 3,
            Self::Removals => 4,
            Self::Tokens => 5,
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A record with the hash of its encoding. Clones share the record.
#[derive(Debug)]
pub struct Row<T> {
    pub(crate) record: Arc<T>,
    pub(crate) digest: [u8; 32],
}

impl<T> Clone for Row<T> {
    fn clone(&self) -> Self {
        Self { record: Arc::clone(&self.record), digest: self.digest }
    }
}

impl<T: Serialize> Row<T> {
    pub(crate) fn new(record: T) -> Self {
        let digest = *blake3::hash(&encode(&record)).as_bytes();
        Self { record: Arc::new(record), digest }
    }
}

/// What the key of [`Table::Removals`] says: when which workload was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RemovalKey {
    pub(crate) height: u64,
    pub(crate) id: WorkloadId,
}

impl RemovalKey {
    pub(crate) fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.height.to_be_bytes());
        bytes[8..].copy_from_slice(self.id.as_bytes());
        bytes
    }

    pub(crate) fn from_bytes(bytes: [u8; 24]) -> Self {
        let (mut height, mut id) = ([0; 8], [0; 16]);
        height.copy_from_slice(&bytes[..8]);
        id.copy_from_slice(&bytes[8..]);
        Self { height: u64::from_be_bytes(height), id: WorkloadId::from_bytes(id) }
    }
}

/// One row that a command or a block has put or deleted.
#[derive(Debug, Clone)]
pub enum Change {
    /// A block was sealed.
    Tip(Tip),
    /// The cluster was founded.
    Cluster(Row<ClusterRecord>),
    /// A member came, or its sequence number went on.
    Node(NodeId, Row<NodeRecord>),
    /// A workload came or changed.
    Workload(WorkloadId, Row<WorkloadRecord>),
    /// A workload is gone.
    WorkloadGone(WorkloadId),
    /// A removal is remembered.
    Removal(RemovalKey, Row<()>),
    /// A removal is forgotten.
    RemovalForgotten(RemovalKey),
    /// A token was made.
    Token(TokenId, Row<TokenRecord>),
    /// A token is gone.
    TokenGone(TokenId),
}

impl Change {
    /// The table it is in.
    #[must_use]
    pub const fn table(&self) -> Table {
        match self {
            Self::Tip(_) => Table::Tip,
            Self::Cluster(_) => Table::Cluster,
            Self::Node(..) => Table::Nodes,
            Self::Workload(..) | Self::WorkloadGone(_) => Table::Workloads,
            Self::Removal(..) | Self::RemovalForgotten(_) => Table::Removals,
            Self::Token(..) | Self::TokenGone(_) => Table::Tokens,
        }
    }

    /// The row's key.
    #[must_use]
    pub fn key(&self) -> Vec<u8> {
        match self {
            Self::Tip(_) | Self::Cluster(_) => Vec::new(),
            Self::Node(id, _) => id.as_bytes().to_vec(),
            Self::Workload(id, _) | Self::WorkloadGone(id) => id.as_bytes().to_vec(),
            Self::Removal(key, _) | Self::RemovalForgotten(key) => key.to_bytes().to_vec(),
            Self::Token(id, _) | Self::TokenGone(id) => id.as_bytes().to_vec(),
        }
    }

    /// The row's new value; `None` when the row is to be deleted.
    #[must_use]
    pub fn value(&self) -> Option<Vec<u8>> {
        Some(match self {
            Self::Tip(tip) => encode(tip),
            Self::Cluster(row) => encode(&*row.record),
            Self::Node(_, row) => encode(&*row.record),
            Self::Workload(_, row) => encode(&*row.record),
            Self::Removal(_, row) => encode(&*row.record),
            Self::Token(_, row) => encode(&*row.record),
            Self::WorkloadGone(_) | Self::RemovalForgotten(_) | Self::TokenGone(_) => return None,
        })
    }
}

/// Why a row's value can't be read.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    /// There is not even a version.
    #[error("the row is empty")]
    Empty,
    /// Another release wrote it.
    #[error("the row has version {0}; this release knows version {ROW_VERSION}")]
    Version(u8),
    /// The record can't be decoded.
    #[error("the row can't be decoded")]
    Decode(#[source] minicbor_serde::error::DecodeError),
}

pub(crate) fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    let mut value = vec![ROW_VERSION];
    let mut serializer = minicbor_serde::Serializer::new(&mut value);
    record.serialize(&mut serializer).expect("records have derived serializers and a Vec takes every write");
    value
}

pub(crate) fn decode<T: DeserializeOwned>(value: &[u8]) -> Result<T, RowError> {
    match value.split_first() {
        None => Err(RowError::Empty),
        Some((&ROW_VERSION, record)) => minicbor_serde::from_slice(record).map_err(RowError::Decode),
        Some((version, _)) => Err(RowError::Version(*version)),
    }
}
