//! The keeper of one workload: a task that makes one wanted workload true and stays with it to its end.
//!
//! ```text
//!   recover --> wanted? --no--> bury
//!                 | yes
//!                 +-- should run, has no sandbox --> launch
//!                 +-- should run, has a sandbox  --> wait for its end or for other wishes
//!                 +-- should stop                --> signal, grace, kill
//!                 +-- has ended                  --> wait for other wishes
//! ```
//!
//! It keeps nothing that it couldn't find again: after `kill -9` of the agent a new keeper recovers from the shim
//! and the workload's directory. It refuses to decide what is wanted; it asks the ledger each time round.

pub(crate) mod blame;
mod launch;
mod outcome;
mod recover;

pub(crate) use outcome::{read_last, read_surroundings};

use std::{sync::Arc, time::Duration};

use hypercore_cluster::state::{Command, Desired, WorkloadRecord};
use hypercore_model::{Attempt, WorkloadId, lifecycle::LifecycleEvent};
use hypercore_runtime::{
    bundle,
    sandbox::{ExitRecord, Sandbox, ShimVanished},
};
use nix::sys::signal::Signal;
use tokio::{sync::watch, time::Instant};

use crate::{board::Observed, clock, directory::WorkloadPaths, failure::Failure, gone, node::Node};

/// What the keeper of one workload works with.
struct Keeper {
    node: Arc<Node>,
    id: WorkloadId,
    paths: WorkloadPaths,
}

/// Keeps one workload until it is no longer wanted at all.
pub(crate) async fn keep(node: Arc<Node>, id: WorkloadId) {
    let paths = node.directory.workload(id);
    let keeper = Keeper { node, id, paths };
    let mut changes = keeper.node.ledger.changes();
    if let Some(record) = keeper.wanted() {
        // A keeper before this one may have panicked half way: what it noted is found out anew.
        keeper.update(|observed| *observed = Observed::pending());
        keeper.recover(&record).await;
        keeper.update(|observed| observed.is_recovered = true);
    }
    loop {
        changes.mark_unchanged();
        let Some(record) = keeper.wanted() else { return keeper.bury().await };
        let observed = keeper.observed();
        if observed.status.is_final() {
            keeper.remove_if_asked(&record).await;
            keeper.wait_for_other_wishes(&record, &mut changes).await;
            continue;
        }
        match (record.desired, observed.sandbox) {
            (Desired::Running, None) => keeper.start(&record, &mut changes).await,
            (Desired::Running, Some(sandbox)) => tokio::select! {
                end = sandbox.exited() => keeper.settle(record.attempt, end).await,
                () = keeper.wait_for_other_wishes(&record, &mut changes) => {}
            },
            (Desired::Stopped { .. }, None) => keeper.give_up(record.attempt),
            (Desired::Stopped { signal, grace_ms }, Some(sandbox)) => {
                let signal = signal.unwrap_or(observed.stop_signal);
                let grace = Duration::from_millis(grace_ms);
                keeper.stop(&record, &sandbox, signal, grace, &mut changes).await;
            }
        }
    }
}

impl Keeper {
    fn wanted(&self) -> Option<Arc<WorkloadRecord>> {
        self.node.ledger.read(|state| state.workload(&self.id).cloned())
    }

    fn observed(&self) -> Observed {
        self.node.board.get(self.id).unwrap_or_else(Observed::pending)
    }

    fn update(&self, change: impl FnOnce(&mut Observed)) {
        self.node.board.update(self.id, change);
    }

    /// Returns when this workload's record is another than the one that is being followed. The ledger speaks of every
    /// command; most are about other workloads.
    async fn wait_for_other_wishes(&self, followed: &WorkloadRecord, changes: &mut watch::Receiver<u64>) {
        while self.wanted().is_some_and(|record| *record == *followed) {
            if changes.changed().await.is_err() {
                // The ledger is closed: the agent is going away, and the supervisor ends this task.
                std::future::pending::<()>().await;
            }
        }
    }

    /// A workload that was told to stop before it ever ran.
    fn give_up(&self, attempt: Attempt) {
        let finished_at = clock::now();
        self.update(|observed| {
            observed.advance(LifecycleEvent::StopAsked);
            observed.advance(LifecycleEvent::StartFailed);
            observed.finished_at = Some(finished_at);
        });
        outcome::write(&self.paths, &outcome::Outcome::stopped_unstarted(attempt, finished_at));
    }

    /// Asks the first process to end, and kills it when the grace period is over. A further wish (a shorter grace
    /// period, a removal) is followed at once.
    async fn stop(
        &self,
        record: &WorkloadRecord,
        sandbox: &Sandbox,
        signal: i32,
        grace: Duration,
        changes: &mut watch::Receiver<u64>,
    ) {
        self.update(|observed| observed.advance(LifecycleEvent::StopAsked));
        tracing::info!(workload = %self.id, signal, ?grace, "stopping");
        self.send_signal(sandbox, signal).await;
        let deadline = Instant::now() + grace;
        tokio::select! {
            end = sandbox.exited() => return self.settle(record.attempt, end).await,
            () = tokio::time::sleep_until(deadline) => {}
            () = self.wait_for_other_wishes(record, changes) => return,
        }
        tracing::info!(workload = %self.id, "the grace period is over: killing");
        self.kill(record.attempt, sandbox).await;
    }

    /// Kills the workload and waits for the end. A shim that no longer answers is taken down with it.
    async fn kill(&self, attempt: Attempt, sandbox: &Sandbox) {
        self.send_signal(sandbox, Signal::SIGKILL as i32).await;
        let end = tokio::time::timeout(KILL_TIME_MAX, sandbox.exited()).await.unwrap_or(Err(ShimVanished));
        self.settle(attempt, end).await;
    }

    async fn send_signal(&self, sandbox: &Sandbox, signal: i32) {
        if let Err(error) = sandbox.signal(signal).await {
            // The process or its shim ended meanwhile; `exited` will say so.
            tracing::debug!(workload = %self.id, signal, %error, "the signal found nobody");
        }
    }

    /// Records how the workload ended and takes down what was put up for it.
    async fn settle(&self, attempt: Attempt, end: Result<ExitRecord, ShimVanished>) {
        self.take_down().await;
        match end {
            Ok(exit) => {
                tracing::info!(workload = %self.id, exit = ?exit.exit, "ended");
                self.update(|observed| {
                    observed.advance(LifecycleEvent::Exited);
                    observed.leave(exit.finished_at);
                    observed.started_at = Some(exit.started_at);
                    observed.exit = Some(exit.exit);
                });
            }
            Err(ShimVanished) => self.lose(attempt),
        }
    }

    /// Records that nobody knows how the workload ended.
    fn lose(&self, attempt: Attempt) {
        let failure = Failure {
            code: "shim_vanished".into(),
            message: "the process that watched over it is gone, so how it ended is unknown".into(),
            hint: "its logs up to then are kept; start it again with `hypercore run`".into(),
        };
        tracing::warn!(workload = %self.id, "{failure}");
        let finished_at = clock::now();
        self.update(|observed| {
            observed.advance(LifecycleEvent::ShimVanished);
            observed.leave(finished_at);
            observed.failure = Some(failure.clone());
        });
        outcome::write(&self.paths, &outcome::Outcome::lost(attempt, failure, finished_at));
    }

    /// Takes down everything that was put up for the workload; its logs and records stay. Each step is tried even
    /// when another fails; what remains is swept later.
    async fn take_down(&self) {
        self.complain("end its processes", self.node.sandboxes.destroy(self.id).await);
        let directory = self.paths.directory().to_owned();
        // The kernel takes its time for links and mounts, and both can be waited for at once.
        let (detached, ()) = tokio::join!(
            self.node.network.detach(self.id),
            self.blocking("unmount its root", move || bundle::discard(&directory)),
        );
        self.complain("detach it from the network", detached);
        self.complain("remove its cgroup", self.node.cgroups.remove(self.id));
        outcome::forget_surroundings(&self.paths);
    }

    /// Does work on the disk that may take long, away from the threads that serve everybody.
    async fn blocking<E: std::error::Error + Send + 'static>(
        &self,
        what: &str,
        work: impl FnOnce() -> Result<(), E> + Send + 'static,
    ) {
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => self.complain(what, result),
            Err(error) => self.complain(what, Err::<(), _>(error)),
        }
    }

    fn complain<T, E: std::error::Error>(&self, what: &str, result: Result<T, E>) {
        if let Err(error) = result {
            tracing::warn!(workload = %self.id, error = crate::failure::chain(&error), "could not {what}; it will be swept");
        }
    }

    /// A workload that was run with `--rm` and has ended removes itself.
    async fn remove_if_asked(&self, record: &WorkloadRecord) {
        if !record.spec.remove_on_exit {
            return;
        }
        if let Err(error) = self.node.ledger.submit(Command::RemoveWorkload { id: self.id }).await {
            tracing::warn!(workload = %self.id, %error, "could not remove it after its end");
        }
    }

    /// The workload is no longer wanted: ends it if it still runs, and keeps its logs for a while.
    async fn bury(&self) {
        if let Some(observed) = self.node.board.get(self.id)
            && let Some(sandbox) = observed.sandbox
        {
            self.send_signal(&sandbox, Signal::SIGKILL as i32).await;
            if tokio::time::timeout(KILL_TIME_MAX, sandbox.exited()).await.is_err() {
                tracing::warn!(workload = %self.id, "its shim does not answer; taking it down");
            }
        }
        self.take_down().await;
        let paths = self.paths.clone();
        self.blocking("remove its disks", move || gone::bury(&paths)).await;
        self.node.board.remove(self.id);
        tracing::info!(workload = %self.id, "removed");
    }
}

/// How long a killed process may take to be gone before its shim is taken down too.
const KILL_TIME_MAX: Duration = Duration::from_secs(10);
