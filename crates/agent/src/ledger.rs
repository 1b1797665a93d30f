//! What is intended, and the only way to change it: commands are signed, applied, flushed to the store, and only then
//! acknowledged. It refuses to know anything that was merely observed.
//!
//! ```text
//!   submit --bounded channel--> writer task: one block of all that wait --> store, flushed --> acknowledged
//!                                                                              |
//!   read <------------------------------ state <-------------------------------+--> changes: look again
//! ```
//!
//! Reading order: this file for users, `writer` for the task, `book` for what it does with each block.

mod ballast;
mod book;
mod writer;

#[cfg(test)]
mod tests;

use std::sync::{Arc, PoisonError, RwLock};

use hypercore_cluster::state::{Command, Event, LoadError, Rejection, State};
use hypercore_store::{Flush, ReadError, Store, WriteError};
use hypercore_trust::{Identity, VerifyError, statement::SignError};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    directory::{Directory, DirectoryError},
    supervisor::Supervisor,
};
use ballast::Ballast;
use book::Book;
use writer::{Request, Writer};

/// How many commands may wait for the writer before [`Ledger::submit`] waits itself.
const WAITING_MAX: usize = 256;

/// Why the ledger can't be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// The key that unlocks the state can't be had.
    #[error("the key of the state can't be had")]
    Key(#[source] Box<DirectoryError>),
    /// The store can't be opened.
    #[error("the store of the state can't be opened")]
    Store(#[from] hypercore_store::OpenError),
    /// There is no state, but there are workloads that one must have made.
    #[error("{state} is missing, but {workloads} is not empty; restore it, or move both away to begin anew", state = .state.display(), workloads = .workloads.display())]
    StateMissing {
        /// Where the state should be.
        state: std::path::PathBuf,
        /// The workloads' directory.
        workloads: std::path::PathBuf,
    },
    /// What is stored can't be read, or is no state.
    #[error("the stored state can't be read")]
    Load(#[from] RecoverError),
}

/// Why stored rows don't become a state.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecoverError {
    /// The rows can't be read.
    #[error("reading the rows failed")]
    Read(#[from] ReadError),
    /// The rows are no state.
    #[error("the rows are damaged")]
    State(#[from] LoadError),
    /// The kept blocks are not the ones that led to the state.
    #[error("block {height} of the history is {what}")]
    History {
        /// Which block.
        height: u64,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// Why a command was not carried out.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum SubmitError {
    /// The state refuses it. Nothing was changed.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// It could not be put under a signature.
    #[error("signing the command failed")]
    Sign(#[source] Arc<SignError>),
    /// The node's own signature doesn't hold: a defect, or faulty memory.
    #[error("the node's own signature doesn't hold")]
    Verify(#[source] Arc<VerifyError>),
    /// It could not be written. Whether it took effect is known once the disk can be read again; repeating it is safe.
    #[error("writing the state failed")]
    Write(#[source] Arc<WriteError>),
    /// After an earlier failure the state could not be read back.
    #[error("reading the state back after a failed write failed")]
    Recover(#[source] Arc<RecoverError>),
    /// The node goes down.
    #[error("the node goes down")]
    Closed,
}

impl SubmitError {
    /// Whether there was no room on the disk.
    pub(crate) fn is_disk_full(&self) -> bool {
        use hypercore_store::OpenError as Opening;
        match self {
            Self::Write(error) => {
                matches!(**error, WriteError::DiskFull(_) | WriteError::Reopen(Opening::DiskFull(_)))
            }
            Self::Recover(error) => {
                matches!(**error, RecoverError::Read(ReadError::Reopen(Opening::DiskFull(_))))
            }
            _ => false,
        }
    }
}

/// A command that was carried out and will not be lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    /// The block it is in; for a command without effect, the last block.
    pub(crate) height: u64,
    /// What it changed; empty when it repeated an earlier one.
    pub(crate) events: Vec<Event>,
}

/// The node's hold on the state. Clones are the same ledger.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    state: Arc<RwLock<State>>,
    requests: mpsc::Sender<Request>,
    heights: watch::Receiver<u64>,
    opened_at_height: u64,
}

impl Ledger {
    /// Opens the node's state, or makes an empty one, and spawns the task that writes it.
    ///
    /// With `in_memory` nothing is read or kept. Without `fsync` a loss of power may take the last commands with it,
    /// or damage the state.
    pub(crate) fn open(
        directory: &Directory,
        identity: Identity,
        fsync: bool,
        in_memory: bool,
        supervisor: &Supervisor,
    ) -> Result<Self, OpenError> {
        if in_memory {
            return Self::on_store(Store::open_in_memory()?, identity, supervisor);
        }
        let mut ballast = Ballast::new(directory.ballast());
        ballast.renew();
        Self::begin(open_store(directory, fsync)?, Some(ballast), identity, supervisor)
    }

    /// The ledger on a store that is open, which has no room set apart for it.
    pub(crate) fn on_store(
        store: Store,
        identity: Identity,
        supervisor: &Supervisor,
    ) -> Result<Self, OpenError> {
        Self::begin(store, None, identity, supervisor)
    }

    fn begin(
        store: Store,
        ballast: Option<Ballast>,
        identity: Identity,
        supervisor: &Supervisor,
    ) -> Result<Self, OpenError> {
        let book = Book::open(store, identity)?;
        let height = book.state().height();
        let state = Arc::new(RwLock::new(book.state().clone()));
        let (requests, waiting) = mpsc::channel(WAITING_MAX);
        let (changed, heights) = watch::channel(height);
        let writer = Writer::new(book, Arc::clone(&state), waiting, changed, ballast);
        supervisor.spawn_draining("ledger", |stop| writer.run(stop));
        tracing::info!(height, "the state is open");
        Ok(Self { state, requests, heights, opened_at_height: height })
    }

    /// Carries out a command. When this returns `Ok`, it is on the disk and every later [`Ledger::read`] sees it.
    /// When the caller goes away while it waits, the command may still be carried out.
    pub(crate) async fn submit(&self, command: Command) -> Result<Committed, SubmitError> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request { command, answer }).await.map_err(|_| SubmitError::Closed)?;
        answered.await.unwrap_or(Err(SubmitError::Closed))
    }

    /// Looks at the state. Writers wait meanwhile, so `look` takes out what it needs and does nothing else.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells when to look again: the height of the last block. It ends when the node goes down.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        let mut heights = self.heights.clone();
        heights.mark_unchanged();
        heights
    }

    /// Whether commands can still be carried out.
    pub(crate) fn is_open(&self) -> bool {
        !self.requests.is_closed()
    }

    /// The height that was found when the ledger was opened.
    pub(crate) const fn opened_at_height(&self) -> u64 {
        self.opened_at_height
    }
}

/// Opens the store on disk. It refuses to make an empty one beside workloads that an earlier one had: reconciling
/// with it would end them all.
fn open_store(directory: &Directory, fsync: bool) -> Result<Store, OpenError> {
    let (state, workloads) = (directory.state(), directory.workloads());
    let has_workloads = directory.workload_ids().is_ok_and(|ids| !ids.is_empty());
    if !state.exists() && has_workloads {
        return Err(OpenError::StateMissing { state, workloads });
    }
    let key = directory.data_key().map_err(|error| OpenError::Key(Box::new(error)))?;
    let flush = if fsync { Flush::Always } else { Flush::Never };
    Ok(Store::open(&state, key, flush)?)
}
