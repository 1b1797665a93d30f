//! The replicated state: who is a member and what shall run where. It refuses to change in any way but
//! [`State::apply`] and [`State::seal`].
//!
//! Reading order: [`command`] (what can be asked), [`record`] (what is kept), [`apply`](State::apply) and
//! [`rejection`] (what is checked), [`event`] (what happened), [`room`] (what fits on a node),
//! [`row`] (how it is stored), [`block`] (how it is numbered and chained), [`resolve`] (how people name things).

use std::{collections::BTreeMap, sync::Arc};

use hypercore_model::{NodeId, TokenId, WorkloadId, WorkloadName};

pub mod block;
pub mod command;
pub mod event;
pub mod record;
pub mod rejection;
pub mod resolve;
pub mod room;
pub mod row;

mod apply;
mod load;

pub use apply::{Applied, GRACE_MS_DEFAULT, GRACE_MS_MAX, TOKENS_MAX};
pub use block::{Block, BlockHash, Header, Root, Sealed, Tip};
pub use command::{AuthoredCommand, ClusterId, Command, SignedCommand};
pub use event::Event;
pub use load::LoadError;
pub use record::{ClusterRecord, Desired, NodeRecord, TokenGrant, TokenRecord, WorkloadRecord};
pub use rejection::{Rejection, RejectionKind};
pub use resolve::ResolveError;
pub use room::{Resource, Resources};
pub use row::{Change, Table};

use row::{RemovalKey, Row};

/// For how many blocks the id of a removed workload is remembered, so that a late repetition of the request that
/// made it is refused and does not make it again.
pub const REMOVALS_REMEMBERED_BLOCKS: u64 = 1000;

/// Everything the cluster has agreed on up to one height.
///
/// A clone shares the records and costs one pointer per row.
#[derive(Debug, Clone, Default)]
pub struct State {
    tip: Option<Tip>,
    cluster: Option<Row<ClusterRecord>>,
    nodes: BTreeMap<NodeId, Row<NodeRecord>>,
    workloads: BTreeMap<WorkloadId, Row<WorkloadRecord>>,
    removals: BTreeMap<RemovalKey, Row<()>>,
    tokens: BTreeMap<TokenId, Row<TokenRecord>>,
    /// Index over `workloads`, derived.
    names: BTreeMap<WorkloadName, WorkloadId>,
    /// What the workloads of each node reserve, derived; without the nodes where that is nothing.
    reserved: BTreeMap<NodeId, Resources>,
}

impl State {
    /// The state before anything was agreed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of the last block; 0 before the first.
    #[must_use]
    pub fn height(&self) -> u64 {
        self.tip.map_or(0, |tip| tip.height)
    }

    /// The last block's place in the chain; `None` before the first.
    #[must_use]
    pub const fn tip(&self) -> Option<&Tip> {
        self.tip.as_ref()
    }

    /// What the cluster was founded as; `None` before its first command.
    #[must_use]
    pub fn cluster(&self) -> Option<&ClusterRecord> {
        self.cluster.as_ref().map(|row| &*row.record)
    }

    /// Every admitted node, in the order of ids.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &NodeRecord)> {
        self.nodes.iter().map(|(id, row)| (*id, &*row.record))
    }

    /// One admitted node.
    #[must_use]
    pub fn node(&self, id: &NodeId) -> Option<&NodeRecord> {
        self.nodes.get(id).map(|row| &*row.record)
    }

    /// Every existing workload, in the order of ids.
    pub fn workloads(&self) -> impl Iterator<Item = &Arc<WorkloadRecord>> {
        self.workloads.values().map(|row| &row.record)
    }

    /// One existing workload.
    #[must_use]
    pub fn workload(&self, id: &WorkloadId) -> Option<&Arc<WorkloadRecord>> {
        self.workloads.get(id).map(|row| &row.record)
    }

    /// The existing workload of that name.
    #[must_use]
    pub fn by_name(&self, name: &WorkloadName) -> Option<&Arc<WorkloadRecord>> {
        self.workload(self.names.get(name)?)
    }

    /// Every token that was not revoked, in the order of ids; expired ones too.
    pub fn tokens(&self) -> impl Iterator<Item = &TokenRecord> {
        self.tokens.values().map(|row| &*row.record)
    }

    /// One token that was not revoked.
    #[must_use]
    pub fn token(&self, id: &TokenId) -> Option<&TokenRecord> {
        self.tokens.get(id).map(|row| &*row.record)
    }

    /// BLAKE3 over every row, in the order of tables and keys: two nodes with the same root agree on everything.
    ///
    /// Each row enters by its own hash, kept since it was written, so this costs one pass over about 60 bytes per
    /// row (some 0.5 ms for 10,000 rows), however large the rows are. It is taken once per block.
    #[must_use]
    pub fn root(&self) -> Root {
        let mut hasher = blake3::Hasher::new_derive_key("hypercore/state-root/v1");
        let mut add = |table: Table, key: &[u8], digest: &[u8; 32]| {
            hasher.update(&[table.tag()]).update(key).update(digest);
        };
        if let Some(row) = &self.cluster {
            add(Table::Cluster, &[], &row.digest);
        }
        for (id, row) in &self.nodes {
            add(Table::Nodes, id.as_bytes(), &row.digest);
        }
        for (id, row) in &self.workloads {
            add(Table::Workloads, id.as_bytes(), &row.digest);
        }
        for (key, row) in &self.removals {
            add(Table::Removals, &key.to_bytes(), &row.digest);
        }
        for (id, row) in &self.tokens {
            add(Table::Tokens, id.as_bytes(), &row.digest);
        }
        Root(*hasher.finalize().as_bytes())
    }

    /// Takes over changes that another copy of this state has made by [`State::apply`] or [`State::seal`].
    /// They must be given completely and in order.
    pub fn absorb<'a>(&mut self, changes: impl IntoIterator<Item = &'a Change>) {
        for change in changes {
            self.absorb_one(change);
        }
    }

    fn absorb_one(&mut self, change: &Change) {
        match change {
            Change::Tip(tip) => self.tip = Some(*tip),
            Change::Cluster(row) => self.cluster = Some(row.clone()),
            Change::Node(id, row) => {
                self.nodes.insert(*id, row.clone());
            }
            Change::Workload(id, row) => {
                if let Some(name) = &row.record.spec.name {
                    self.names.insert(name.clone(), *id);
                }
                let before = self.workloads.insert(*id, row.clone());
                self.reserve(before.as_ref().map(|row| &*row.record), Some(&*row.record));
            }
            Change::WorkloadGone(id) => {
                let gone = self.workloads.remove(id);
                self.reserve(gone.as_ref().map(|row| &*row.record), None);
                if let Some(name) = gone.and_then(|row| row.record.spec.name.clone()) {
                    self.names.remove(&name);
                }
            }
            Change::Removal(key, row) => {
                self.removals.insert(*key, row.clone());
            }
            Change::RemovalForgotten(key) => {
                self.removals.remove(key);
            }
            Change::Token(id, row) => {
                self.tokens.insert(*id, row.clone());
            }
            Change::TokenGone(id) => {
                self.tokens.remove(id);
            }
        }
    }

    /// Whether the workload existed and was removed within the remembered blocks.
    fn was_removed(&self, id: WorkloadId) -> bool {
        self.removals.keys().any(|key| key.id == id)
    }
}

#[cfg(test)]
mod tests;
