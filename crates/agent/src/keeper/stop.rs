//! Ends a workload that shall no longer run: asked first, then killed. It refuses to wait longer than the last wish
//! allows.

use std::{convert::Infallible, time::Duration};

use hypercore_cluster::state::{Command, Desired, WorkloadRecord};
use hypercore_model::{WorkloadId, lifecycle::LifecycleEvent, machine::KILL_INSIDE};
use hypercore_runtime::{
    cgroup::FreezeError,
    sandbox::{ExitRecord, Sandbox, ShimVanished},
};
use nix::sys::signal::Signal;
use tokio::{sync::watch, time::Instant};

use super::{Keeper, TELL_AGAIN, end::End};
use crate::{failure::chain, node::Node};

/// How long a killed process may take to be gone before its shim is taken down too.
const KILL_TIME_MAX: Duration = Duration::from_secs(10);

/// How a first process ended, as far as its shim told it.
type Exited = Result<ExitRecord, ShimVanished>;

/// How long a machine may take to end after its process was killed: longer than its guest gets to power off.
const KILL_INSIDE_TIME_MAX: Duration = Duration::from_secs(5);

/// Has a machine kill its process and end in order, with all that it has written; its end, if that came in time. `None`
/// for what is no machine, too.
pub(crate) async fn kill_inside(node: &Node, id: WorkloadId, sandbox: &Sandbox) -> Option<Exited> {
    if !node.sandboxes.machine_socket(id).exists() || sandbox.signal(KILL_INSIDE).await.is_err() {
        return None;
    }
    // A paused one would notice no sooner than it is resumed.
    drop(node.cgroups.thaw(id));
    let exited = tokio::time::timeout(KILL_INSIDE_TIME_MAX, sandbox.exited()).await;
    if exited.is_err() {
        tracing::info!(workload = %id, "its machine does not end when its process is killed");
    }
    exited.ok()
}

impl Keeper {
    /// Asks the first process to end, and kills it when the grace period is over. A further wish (a shorter grace
    /// period, a removal) is followed at once.
    pub(super) async fn stop(
        &self,
        record: &WorkloadRecord,
        sandbox: &Sandbox,
        signal: i32,
        grace: Duration,
        changes: &mut watch::Receiver<u64>,
    ) {
        self.update(|observed| observed.advance(LifecycleEvent::StopAsked));
        tracing::info!(workload = %self.id, signal, ?grace, "stopping");
        let exited = if signal == Signal::SIGKILL as i32 {
            self.kill(sandbox).await
        } else {
            self.send_signal(sandbox, signal).await;
            let deadline = Instant::now() + grace;
            tokio::select! {
                exited = sandbox.exited() => exited,
                () = tokio::time::sleep_until(deadline) => {
                    tracing::info!(workload = %self.id, "the grace period is over: killing");
                    self.kill(sandbox).await
                }
                () = self.wait_for_other_wishes(record, changes) => return,
            }
        };
        self.settle(record, End::of(exited, Some(sandbox.started_at()))).await;
    }

    /// Kills the first process and waits for its end. A shim that doesn't tell of it counts as vanished. A machine gets
    /// the time to write what it has to its disks.
    pub(super) async fn kill(&self, sandbox: &Sandbox) -> Exited {
        if let Some(exited) = kill_inside(&self.node, self.id, sandbox).await {
            return exited;
        }
        self.send_signal(sandbox, Signal::SIGKILL as i32).await;
        tokio::time::timeout(KILL_TIME_MAX, sandbox.exited()).await.unwrap_or(Err(ShimVanished))
    }

    async fn send_signal(&self, sandbox: &Sandbox, signal: i32) {
        if let Err(error) = sandbox.signal(signal).await {
            // The process or its shim ended meanwhile; `exited` will say so.
            tracing::debug!(workload = %self.id, signal, %error, "the signal found nobody");
        }
        self.thaw();
    }

    /// Lets a paused workload go on, for it can't end while its processes are held. A signal that came before is
    /// there when they wake.
    pub(super) fn thaw(&self) {
        match self.node.cgroups.thaw(self.id) {
            Ok(()) | Err(FreezeError::Absent(_)) => {}
            Err(error) => self.complain("let it go on", Err::<(), _>(error)),
        }
    }

    /// Whether its time to live is over and nobody has told it to stop.
    pub(super) fn is_expired(&self, record: &WorkloadRecord) -> bool {
        let is_over = self.deadline.is_some_and(|deadline| deadline <= Instant::now());
        is_over && record.desired == Desired::Running
    }

    /// Has the state stop the workload when its time to live is over. What follows from that is a change of the record.
    pub(super) async fn expire(&self, record: &WorkloadRecord) -> Infallible {
        if record.desired == Desired::Running
            && let Some(deadline) = self.deadline
        {
            tokio::time::sleep_until(deadline).await;
            while !self.observed().status.is_final()
                && let Err(error) = self.node.ledger.submit(Command::ExpireWorkload { id: self.id }).await
            {
                let error = chain(&error);
                tracing::warn!(workload = %self.id, error, "its time to live is over, but the state could not be told");
                tokio::time::sleep(TELL_AGAIN).await;
            }
        }
        std::future::pending().await
    }
}
