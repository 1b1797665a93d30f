//! The state and its store, kept in step: commands become a block, the block becomes rows, the rows become a state
//! again after a restart. It refuses to go on from a write whose outcome it doesn't know: it reads back what is stored.
//!
//! Beside the state's own tables, the store has `log/blocks`: every block of the last [`HISTORY_BLOCKS`] heights, by
//! height, chained by hash to the state's tip.

use std::sync::Arc;

use hypercore_cluster::state::{
    AuthoredCommand, Block, BlockHash, Change, Command, Event, State, Table, Tip,
};
use hypercore_model::Timestamp;
use hypercore_store::{Batch, Store};
use hypercore_trust::{Identity, Signed, Verified};

use super::{Committed, RecoverError, SubmitError};

/// How many blocks are kept, newest first: `[consensus] checkpoint_interval`.
pub(super) const HISTORY_BLOCKS: u64 = 1000;
pub(super) const BLOCKS_TABLE: &str = "log/blocks";

/// The state as this node writes it.
#[derive(Debug)]
pub(super) struct Book {
    store: Store,
    identity: Identity,
    state: State,
    /// A write failed, and the state may not be what is stored.
    is_doubtful: bool,
}

/// What became of the commands of one block.
#[derive(Debug)]
pub(super) struct Entered {
    /// For each command, in order.
    pub(super) results: Vec<Result<Committed, SubmitError>>,
    /// What the block changed in the state; empty when there is no block.
    pub(super) changes: Vec<Change>,
    /// The state was read back from the store before, and may differ in more than `changes`.
    pub(super) is_recovered: bool,
}

impl Entered {
    /// Whether it failed because the disk is full.
    pub(super) fn found_disk_full(&self) -> bool {
        self.results.iter().filter_map(|result| result.as_ref().err()).any(SubmitError::is_disk_full)
    }
}

impl Book {
    /// The state that the store holds.
    pub(super) fn open(store: Store, identity: Identity) -> Result<Self, RecoverError> {
        let state = recover(&store)?;
        Ok(Self { store, identity, state, is_doubtful: false })
    }

    /// The state as of the last block.
    pub(super) const fn state(&self) -> &State {
        &self.state
    }

    /// Makes a block of the commands that can be applied, and writes it.
    pub(super) fn enter(&mut self, commands: &[Command], now: Timestamp) -> Entered {
        let is_recovered = self.is_doubtful;
        if let Err(error) = self.settle_doubt() {
            let error = Arc::new(error);
            let results = commands.iter().map(|_| Err(SubmitError::Recover(Arc::clone(&error)))).collect();
            return Entered { results, changes: Vec::new(), is_recovered: false };
        }
        let (mut results, mut changes, mut applied) = (Vec::new(), Vec::new(), Vec::new());
        for command in commands {
            let result = self.apply(command.clone(), now, &mut changes);
            results.push(result.map(|(command, events)| {
                applied.extend(command);
                Committed { height: self.state.height(), events }
            }));
        }
        if applied.is_empty() {
            return Entered { results, changes, is_recovered };
        }
        match self.write_block(&applied, now, &mut changes) {
            Ok(height) => {
                for committed in results.iter_mut().flatten() {
                    committed.height = height;
                }
            }
            Err(error) => {
                self.is_doubtful = true;
                for result in results.iter_mut().filter(|result| result.is_ok()) {
                    *result = Err(error.clone());
                }
                // The state runs ahead of the store now. Readers keep what they saw until it was read back.
                return Entered { results, changes: Vec::new(), is_recovered: false };
            }
        }
        Entered { results, changes, is_recovered }
    }

    /// Signs one command and applies it to the state, which runs ahead of the store until the block is written.
    /// A command without effect is left out of the block: there is nothing to agree on.
    fn apply(
        &mut self,
        command: Command,
        now: Timestamp,
        changes: &mut Vec<Change>,
    ) -> Result<Planned, SubmitError> {
        let author = self.identity.node_id();
        let statement = AuthoredCommand {
            cluster: self.state.cluster().map(|cluster| cluster.id),
            sequence: self.state.node(&author).map_or(0, |node| node.sequence) + 1,
            at: now,
            command,
        };
        let signed = Signed::sign(&self.identity, &statement);
        let signed = signed.map_err(|error| SubmitError::Sign(Arc::new(error)))?;
        let verified = signed.verify().map_err(|error| SubmitError::Verify(Arc::new(error)))?;
        let plan = self.state.plan(&verified)?;
        if plan.events.is_empty() {
            return Ok((None, plan.events));
        }
        self.state.absorb(&plan.changes);
        changes.extend(plan.changes);
        Ok((Some(verified), plan.events))
    }

    fn write_block(
        &mut self,
        commands: &[Verified<AuthoredCommand>],
        now: Timestamp,
        changes: &mut Vec<Change>,
    ) -> Result<u64, SubmitError> {
        let sealed = self.state.seal(now, commands);
        changes.extend(sealed.changes);
        let mut batch = Batch::new();
        for change in &*changes {
            let table = change.table().as_str();
            match change.value() {
                Some(value) => batch.put(table, change.key(), value),
                None => batch.delete(table, change.key()),
            };
        }
        let height = sealed.block.header.height;
        batch.put(BLOCKS_TABLE, height.to_be_bytes(), sealed.block.encode());
        if let Some(old) = height.checked_sub(HISTORY_BLOCKS) {
            batch.delete(BLOCKS_TABLE, old.to_be_bytes());
        }
        self.store.write(&batch).map_err(|error| SubmitError::Write(Arc::new(error)))?;
        Ok(height)
    }

    /// After a failed write the store alone knows what is true: the block is in it, or it is not.
    fn settle_doubt(&mut self) -> Result<(), RecoverError> {
        if self.is_doubtful {
            self.state = recover(&self.store)?;
            self.is_doubtful = false;
        }
        Ok(())
    }
}

/// A command that was applied, or none when it has no effect; and what it changed.
type Planned = (Option<Verified<AuthoredCommand>>, Vec<Event>);

/// Reads the state back, and checks that the kept blocks lead to it.
fn recover(store: &Store) -> Result<State, RecoverError> {
    let mut rows = Vec::new();
    for table in Table::ALL {
        rows.extend(store.scan(table.as_str(), &[])?.into_iter().map(|(key, value)| (table, key, value)));
    }
    let state = State::load(rows)?;
    if let Some(tip) = state.tip() {
        check_history(store, tip)?;
    }
    Ok(state)
}

/// Walks the chain of blocks back from the tip as far as it is kept.
fn check_history(store: &Store, tip: &Tip) -> Result<(), RecoverError> {
    let (mut height, mut expected) = (tip.height, tip.hash);
    let oldest = tip.height.saturating_sub(HISTORY_BLOCKS - 1).max(1);
    loop {
        let wrong = |what| RecoverError::History { height, what };
        let bytes = store.get(BLOCKS_TABLE, &height.to_be_bytes())?.ok_or(wrong("missing"))?;
        let header = Block::decode(&bytes).map_err(|_| wrong("unreadable"))?.header;
        if header.height != height || header.hash() != expected {
            return Err(wrong("not the one that its successor names"));
        }
        if height == oldest {
            let is_whole = height > 1 || header.previous == BlockHash::NONE;
            return if is_whole { Ok(()) } else { Err(wrong("not the first")) };
        }
        (height, expected) = (height - 1, header.previous);
    }
}
