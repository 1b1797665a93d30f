//! The keeper of one workload: a task that makes one wanted workload true and stays with it to its end.
//!
//! ```text
//!   recover --> wanted? --no--> bury
//!                 | yes
//!                 +-- should run, has no sandbox --> launch, after the pause if it ran before
//!                 +-- should run, has a sandbox  --> wait for its end or for other wishes
//!                 +-- should stop                --> signal, grace, kill
//!                 +-- has ended for good         --> tell the state, wait for other wishes
//! ```
//!
//! Time to live counts what really passes: by the monotonic clock while the agent runs, by the wall clock for the time
//! that it was away. A wall clock that jumps ends nothing early while the agent runs, and one that was set back gives a
//! workload at most its whole time once more after the agent's next start.
//!
//! It keeps nothing that it couldn't find again: after `kill -9` of the agent a new keeper recovers from the shim
//! and the workload's directory. It refuses to decide what is wanted; it asks the ledger each time round.

pub(crate) mod blame;
mod end;
mod launch;
mod outcome;
mod recover;
mod runs;
mod source;
mod stop;
mod take_down;

pub(crate) use outcome::{read_last, read_surroundings};
pub(crate) use runs::LastRun;
pub(crate) use stop::kill_inside;

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hypercore_cluster::state::{Desired, WorkloadRecord};
use hypercore_model::{Timestamp, WorkloadId};
use tokio::{sync::watch, time::Instant};

use self::{end::End, runs::Runs};
use crate::{
    board::Observed,
    clock,
    directory::WorkloadPaths,
    events::{Action, Event},
    node::Node,
};

/// How long until the state is told again what it could not take in, such as on a full disk.
const TELL_AGAIN: Duration = Duration::from_secs(2);

/// What the keeper of one workload works with.
struct Keeper {
    node: Arc<Node>,
    id: WorkloadId,
    paths: WorkloadPaths,
    /// When its time to live is over; `None` is never.
    deadline: Option<Instant>,
    /// What `runs.json` says, or would say if the disk took it.
    runs: Mutex<Option<Runs>>,
}

/// Keeps one workload until it is no longer wanted at all.
pub(crate) async fn keep(node: Arc<Node>, id: WorkloadId) {
    let mut changes = node.ledger.changes();
    let mut followed = node.ledger.read(|state| state.workload(&id).cloned());
    let keeper = Keeper::new(node, id, followed.as_deref());
    if let Some(record) = &followed {
        keeper.begin(record).await;
    }
    loop {
        changes.mark_unchanged();
        let Some(record) = keeper.wanted() else { return keeper.bury(followed.as_deref()).await };
        keeper.follow(&record, &mut changes).await;
        followed = Some(record);
    }
}

impl Keeper {
    fn new(node: Arc<Node>, id: WorkloadId, record: Option<&WorkloadRecord>) -> Self {
        let paths = node.directory.workload(id);
        let deadline = record.and_then(|record| {
            let ttl = Duration::from_millis(record.spec.ttl_ms?);
            Some(Instant::now() + time_left(ttl, record.created_at, clock::now()))
        });
        Self { node, id, paths, deadline, runs: Mutex::default() }
    }

    /// Finds out what became of the workload before this keeper came.
    async fn begin(&self, record: &WorkloadRecord) {
        if !self.paths.directory().exists() {
            self.node.events.publish(Event::workload(Action::Created, record));
        }
        // A keeper before this one may have panicked half way: what it noted is found out anew.
        self.update(|observed| *observed = Observed::pending());
        self.recover(record).await;
        self.update(|observed| observed.is_recovered = true);
    }

    /// Goes one step towards what is wanted, and returns when there may be another to go.
    async fn follow(&self, record: &WorkloadRecord, changes: &mut watch::Receiver<u64>) {
        let observed = self.observed();
        if observed.status.is_final() {
            return self.rest(record, changes).await;
        }
        match (record.desired, observed.sandbox) {
            (Desired::Running, None) if self.is_expired(record) => {
                self.wait_for_other_wishes(record, changes).await;
            }
            (Desired::Running, None) => {
                let is_due = tokio::select! {
                    () = until(observed.due) => true,
                    () = self.wait_for_other_wishes(record, changes) => false,
                };
                if is_due {
                    self.start(record, changes).await;
                }
            }
            (Desired::Running, Some(sandbox)) => tokio::select! {
                exited = sandbox.exited() => self.settle(record, End::of(exited, observed.started_at)).await,
                () = self.wait_for_other_wishes(record, changes) => {}
            },
            (Desired::Stopped { .. }, None) => self.give_up(record).await,
            (Desired::Stopped { signal, grace_ms }, Some(sandbox)) => {
                let signal = signal.or(record.spec.stop_signal).unwrap_or(observed.stop_signal);
                let grace = Duration::from_millis(grace_ms);
                self.stop(record, &sandbox, signal, grace, changes).await;
            }
        }
    }

    /// It has ended for good: the state is told, and told again when it could not take that in.
    async fn rest(&self, record: &WorkloadRecord, changes: &mut watch::Receiver<u64>) {
        let is_told = self.report_end(record).await;
        let again = async {
            if is_told {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(TELL_AGAIN).await;
        };
        tokio::select! {
            () = again => {}
            () = self.wait_for_other_wishes(record, changes) => {}
        }
    }

    fn wanted(&self) -> Option<Arc<WorkloadRecord>> {
        self.node.ledger.read(|state| state.workload(&self.id).cloned())
    }

    fn observed(&self) -> Observed {
        self.node.board.get(self.id).unwrap_or_else(Observed::pending)
    }

    fn update(&self, change: impl FnOnce(&mut Observed)) {
        self.node.board.update(self.id, change);
    }

    /// What is known of the workload's runs.
    fn runs(&self, record: &WorkloadRecord) -> Runs {
        let mut known = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        // When its first run began is not written; it can't have been before the workload was made.
        known.get_or_insert_with(|| Runs::read(&self.paths, record.attempt, record.created_at)).clone()
    }

    fn remember(&self, runs: Runs) -> io::Result<()> {
        let written = runs.write(&self.paths);
        *self.runs.lock().unwrap_or_else(PoisonError::into_inner) = Some(runs);
        written
    }

    /// Returns when this workload's record is another than the one that is being followed. The ledger speaks of every
    /// command; most are about other workloads. Meanwhile its time to live may end, which is such another wish.
    async fn wait_for_other_wishes(&self, followed: &WorkloadRecord, changes: &mut watch::Receiver<u64>) {
        let changed = async {
            while self.wanted().is_some_and(|record| *record == *followed) {
                if changes.changed().await.is_err() {
                    // The ledger is closed: the agent is going away, and the supervisor ends this task.
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::select! {
            () = changed => {}
            never = self.expire(followed) => match never {},
        }
    }
}

/// Returns at that moment, or at once without one.
async fn until(due: Option<Instant>) {
    if let Some(due) = due {
        tokio::time::sleep_until(due).await;
    }
}

/// What is left of a time to live that began at `created_at`: never more than all of it, whatever the clock says.
fn time_left(ttl: Duration, created_at: Timestamp, now: Timestamp) -> Duration {
    ttl.saturating_sub(now.since(created_at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_gives_a_workload_no_more_than_its_whole_time_to_live() {
        let (ttl, at) = (Duration::from_secs(60), Timestamp::from_unix_ms);
        assert_eq!(time_left(ttl, at(1_000_000), at(1_010_000)), Duration::from_secs(50));
        assert_eq!(time_left(ttl, at(1_000_000), at(0)), ttl, "set back");
        assert_eq!(time_left(ttl, at(1_000_000), at(u64::MAX)), Duration::ZERO, "far ahead");
    }
}
