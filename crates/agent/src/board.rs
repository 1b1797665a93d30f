//! What the node observed of its workloads: soft state, rebuilt from shims and directories after a restart.
//! It refuses to hold intentions; those are the ledger's.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, Ipv6Addr},
    sync::{Mutex, MutexGuard, PoisonError},
};

use hypercore_model::{Digest, ExitStatus, Timestamp, WorkloadId, WorkloadStatus, lifecycle::LifecycleEvent};
use hypercore_runtime::{image::PullProgress, network::PublishedPort, sandbox::Sandbox};
use tokio::{sync::watch, time::Instant};

use crate::{failure::Failure, keeper::LastRun, machines::RunBy};

/// Everything known about one workload on this node.
#[derive(Debug, Clone)]
pub(crate) struct Observed {
    pub(crate) status: WorkloadStatus,
    /// Whether its keeper has looked for what an earlier run of the agent left; before that, the rest says little.
    pub(crate) is_recovered: bool,
    /// The live sandbox, while there is one.
    pub(crate) sandbox: Option<Sandbox>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Option<Timestamp>,
    pub(crate) exit: Option<ExitStatus>,
    /// Why it failed or was lost.
    pub(crate) failure: Option<Failure>,
    pub(crate) ports: Vec<PublishedPort>,
    pub(crate) address: Option<Ipv4Addr>,
    pub(crate) address6: Option<Ipv6Addr>,
    pub(crate) image_digest: Option<Digest>,
    /// What runs its machine, of a microVM that was started.
    pub(crate) run_by: Option<RunBy>,
    /// What its start waits for, where that is not its own.
    pub(crate) awaited: Option<&'static str>,
    /// The signal that asks it to end, as its image says.
    pub(crate) stop_signal: i32,
    /// How often it was started again.
    pub(crate) restarts: u32,
    /// When it is started again, by the clock that nobody sets, while it waits for that.
    pub(crate) due: Option<Instant>,
    /// How the run before this one ended, once there was one.
    pub(crate) last_run: Option<LastRun>,
    /// The layers of a pull under way, in the order they were first heard of.
    pub(crate) pull: Vec<PullProgress>,
}

impl Observed {
    /// Nothing has happened yet.
    pub(crate) const fn pending() -> Self {
        Self {
            status: WorkloadStatus::Pending,
            is_recovered: false,
            sandbox: None,
            started_at: None,
            finished_at: None,
            exit: None,
            failure: None,
            ports: Vec::new(),
            address: None,
            address6: None,
            image_digest: None,
            run_by: None,
            awaited: None,
            stop_signal: libc_sigterm(),
            restarts: 0,
            due: None,
            last_run: None,
            pull: Vec::new(),
        }
    }

    /// Notes that it has no process, and so no place on the network, any more.
    pub(crate) fn leave(&mut self, finished_at: Timestamp) {
        self.sandbox = None;
        self.address = None;
        self.address6 = None;
        self.ports.clear();
        self.finished_at = Some(finished_at);
    }

    /// Moves the status along. An event that doesn't fit is a defect: it is logged, and the status stays.
    pub(crate) fn advance(&mut self, event: LifecycleEvent) {
        match self.status.after(event) {
            Ok(status) => self.status = status,
            Err(error) => tracing::error!(%error, "lifecycle defect"),
        }
    }
}

const fn libc_sigterm() -> i32 {
    nix::sys::signal::Signal::SIGTERM as i32
}

/// The observations of all workloads, each to be watched on its own.
#[derive(Debug, Default)]
pub(crate) struct Board {
    entries: Mutex<BTreeMap<WorkloadId, watch::Sender<Observed>>>,
    /// Counts the changes of status or address of any of them.
    moves: watch::Sender<u64>,
}

impl Board {
    /// Watches one workload. One that nothing was observed of yet is pending if it `is_known` to the state; else it was
    /// removed, and its watch is at its end.
    ///
    /// `is_known` is asked under the board's lock: an entry made here is older than the workload's removal, so that its
    /// keeper takes it away.
    pub(crate) fn watch(&self, id: WorkloadId, is_known: impl FnOnce() -> bool) -> watch::Receiver<Observed> {
        let mut entries = self.lock();
        if let Some(sender) = entries.get(&id) {
            return sender.subscribe();
        }
        let sender = watch::Sender::new(Observed::pending());
        let observed = sender.subscribe();
        if is_known() {
            entries.insert(id, sender);
        }
        observed
    }

    /// What was last observed of a workload, if anything.
    pub(crate) fn get(&self, id: WorkloadId) -> Option<Observed> {
        self.lock().get(&id).map(|sender| sender.borrow().clone())
    }

    /// Changes what is known of a workload and tells everyone who watches it.
    pub(crate) fn update(&self, id: WorkloadId, change: impl FnOnce(&mut Observed)) {
        let mut entries = self.lock();
        let sender = entries.entry(id).or_insert_with(|| watch::Sender::new(Observed::pending()));
        let place = |observed: &Observed| (observed.status, observed.address);
        let before = place(&sender.borrow());
        sender.send_modify(change);
        if place(&sender.borrow()) != before {
            self.moves.send_modify(|count| *count += 1);
        }
    }

    /// Says "look again" when the status or the address of any workload has changed.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.moves.subscribe()
    }

    /// Forgets a workload. Those who watch it keep what they saw last, and learn that nothing more will come.
    pub(crate) fn remove(&self, id: WorkloadId) {
        self.lock().remove(&id);
    }

    /// Every workload that is known here.
    pub(crate) fn ids(&self) -> BTreeSet<WorkloadId> {
        self.lock().keys().copied().collect()
    }

    /// How many workloads have processes.
    pub(crate) fn running_count(&self) -> usize {
        self.lock().values().filter(|sender| sender.borrow().status.has_processes()).count()
    }

    /// How many workloads stand at each status.
    pub(crate) fn count_by_status(&self) -> BTreeMap<WorkloadStatus, usize> {
        let mut counts = BTreeMap::new();
        for sender in self.lock().values() {
            *counts.entry(sender.borrow().status).or_insert(0) += 1;
        }
        counts
    }

    /// The images that the workloads known here were made of.
    pub(crate) fn image_digests(&self) -> Vec<(WorkloadId, Digest)> {
        self.lock().iter().filter_map(|(id, sender)| Some((*id, sender.borrow().image_digest?))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<WorkloadId, watch::Sender<Observed>>> {
        // Each change is one assignment, so a panic elsewhere can't have left an entry half-written.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> WorkloadId {
        WorkloadId::from_bytes([1; 16])
    }

    #[tokio::test]
    async fn who_watches_sees_changes_and_the_removal() {
        let board = Board::default();
        let mut observed = board.watch(id(), || true);
        assert_eq!(observed.borrow_and_update().status, WorkloadStatus::Pending);
        board.update(id(), |observed| observed.advance(LifecycleEvent::PullBegun));
        board.remove(id());
        // What was noted before the removal is still seen, and only then the end.
        assert!(observed.changed().await.is_ok());
        assert_eq!(observed.borrow_and_update().status, WorkloadStatus::Pulling);
        assert!(observed.changed().await.is_err());
    }

    #[tokio::test]
    async fn watching_what_was_removed_ends_at_once_and_leaves_nothing() {
        let board = Board::default();
        assert!(board.watch(id(), || false).changed().await.is_err());
        assert!(board.ids().is_empty());
    }

    #[test]
    fn a_watcher_does_not_take_away_what_a_keeper_still_works_on() {
        let board = Board::default();
        board.update(id(), |observed| observed.advance(LifecycleEvent::StartBegun));
        assert_eq!(board.watch(id(), || false).borrow().status, WorkloadStatus::Starting);
        assert_eq!(board.ids(), BTreeSet::from([id()]));
    }

    #[test]
    fn what_ended_has_no_place_on_the_network() {
        let mut observed = Observed::pending();
        observed.address = Some(Ipv4Addr::LOCALHOST);
        observed.leave(Timestamp::from_unix_ms(7));
        assert_eq!((observed.address, observed.finished_at), (None, Some(Timestamp::from_unix_ms(7))));
    }

    #[test]
    fn an_event_that_does_not_fit_changes_nothing() {
        let mut observed = Observed::pending();
        observed.advance(LifecycleEvent::Exited);
        assert_eq!(observed.status, WorkloadStatus::Pending);
    }
}
