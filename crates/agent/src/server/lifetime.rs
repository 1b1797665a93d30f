//! Stop, kill, remove, wait: the calls that end a workload or wait for its end.

use std::time::Duration;

use hypercore_api::v1;
use hypercore_cluster::state::{Command, WorkloadRecord};
use hypercore_model::{ExitStatus, WorkloadId, WorkloadStatus, limits::STOP_GRACE_MS_MAX};
use hypercore_runtime::sandbox::{ExitRecord, RequestError};
use nix::sys::signal::Signal;
use tokio::sync::watch;

use super::{Handlers, problem::Problem, request, target, target::Target};
use crate::{board::Observed, directory::WorkloadPaths, failure::Failure, keeper};

/// How long a stopped workload gets when neither the caller nor its spec says.
const GRACE_MS_DEFAULT: u64 = 10_000;
/// How long `rm` waits for what was put up to be taken down.
const TAKE_DOWN_TIME_MAX: Duration = Duration::from_secs(30);

impl Handlers {
    pub(super) async fn stop_workload(&self, call: v1::VmStopRequest) -> Result<v1::VmStopResponse, Problem> {
        let record = target::known(self, &call.id)?;
        let wanted = || record.spec.stop_grace_ms.unwrap_or(GRACE_MS_DEFAULT);
        let grace_ms = call.grace_period_ms.map_or_else(wanted, u64::from).min(STOP_GRACE_MS_MAX);
        let signal = request::optional_signal(call.signal)?;
        let mut observed = target::observe(&self.node, record.id);
        if !observed.borrow().status.is_final() {
            self.node.ledger.submit(Command::StopWorkload { id: record.id, signal, grace_ms }).await?;
            end(&mut observed).await;
        }
        Ok(v1::VmStopResponse { id: record.id.to_string() })
    }

    pub(super) async fn kill_workload(&self, call: v1::KillRequest) -> Result<v1::KillResponse, Problem> {
        let record = target::known(self, &call.id)?;
        let signal = request::signal(call.signal, Signal::SIGKILL)?;
        let sandbox = self.running_sandbox(&record).await?;
        if signal == Signal::SIGKILL as i32
            && keeper::kill_inside(&self.node, record.id, &sandbox).await.is_some()
        {
            return Ok(v1::KillResponse { id: record.id.to_string() });
        }
        sandbox.signal(signal).await.map_err(|error| match error {
            RequestError::Gone => not_running(&record, "at its end"),
            error => Problem::fault("signal_failed", &error),
        })?;
        if signal == Signal::SIGKILL as i32 {
            // A paused workload would notice no sooner than it is resumed; any other signal may wait for that.
            drop(self.node.cgroups.thaw(record.id));
        }
        Ok(v1::KillResponse { id: record.id.to_string() })
    }

    pub(super) async fn remove_workload(
        &self,
        call: v1::RemoveRequest,
    ) -> Result<v1::RemoveResponse, Problem> {
        let record = target::known(self, &call.id)?;
        let status = target::recovered(&self.node, record.id).await.status;
        let mut observed = target::observe(&self.node, record.id);
        if !status.is_final() {
            if !call.force {
                let problem =
                    Problem::conflict("still_running", format!("workload {} is {status}", record.id.short()));
                return Err(problem.hint("stop it first, or remove it with `hypercore rm -f`"));
            }
            let signal = Some(Signal::SIGKILL as i32);
            self.node.ledger.submit(Command::StopWorkload { id: record.id, signal, grace_ms: 0 }).await?;
            end(&mut observed).await;
        }
        self.node.ledger.submit(Command::RemoveWorkload { id: record.id }).await?;
        let taken_down = async { while observed.changed().await.is_ok() {} };
        if tokio::time::timeout(TAKE_DOWN_TIME_MAX, taken_down).await.is_err() {
            tracing::warn!(workload = %record.id, "it is removed, and taking it down takes long");
        }
        Ok(v1::RemoveResponse { id: record.id.to_string() })
    }

    pub(super) async fn wait_workload(&self, call: v1::WaitRequest) -> Result<v1::WaitResponse, Problem> {
        let exit = self.exit_of_target(&target::any(self, &call.id)?).await?;
        Ok(v1::WaitResponse { exit: Some(exit.into()) })
    }

    /// Waits for the end, unless that is past, and answers how it was.
    pub(super) async fn exit_of_target(&self, target: &Target) -> Result<ExitStatus, Problem> {
        match target {
            Target::Known(record) => self.exit_of(record).await,
            Target::Gone(id, paths) => self.gone_exit(*id, paths),
        }
    }

    async fn exit_of(&self, record: &WorkloadRecord) -> Result<ExitStatus, Problem> {
        let mut observed = target::observe(&self.node, record.id);
        let last = end(&mut observed).await;
        // A workload that was removed may have left its exit status on disk alone.
        let recorded = || self.gone_exit(record.id, &self.node.directory.workload(record.id)).ok();
        last.exit.or_else(recorded).ok_or_else(|| without_exit(last.status, last.failure.as_ref()))
    }

    /// How the run ended that follows so many restarts, for those who joined it.
    pub(super) async fn exit_of_run(&self, target: &Target, restarts: u32) -> Result<ExitStatus, Problem> {
        if let Target::Known(record) = target {
            let mut observed = target::observe(&self.node, record.id);
            let seen = run_end(&mut observed, restarts).await;
            if let Some(last) = seen.last_run.filter(|_| !seen.status.is_final()) {
                let message = format!("the run ended without an exit status, after {}", last.how);
                return last.exit.ok_or_else(|| Problem::conflict("no_exit_status", message));
            }
        }
        self.exit_of_target(target).await
    }

    /// How a removed workload ended, from the record its keeper wrote, else from its shim's.
    fn gone_exit(&self, id: WorkloadId, paths: &WorkloadPaths) -> Result<ExitStatus, Problem> {
        let last = keeper::read_last(id, self.node.identity, paths).map(|(_, observed)| observed);
        let bytes = || std::fs::read(paths.exit()).ok();
        let shim = || serde_json::from_slice::<ExitRecord>(&bytes()?).ok().map(|record| record.exit);
        let exit = last.as_ref().and_then(|last| last.exit).or_else(shim);
        exit.ok_or_else(|| match last {
            Some(last) => without_exit(last.status, last.failure.as_ref()),
            None => Problem::conflict(
                "no_exit_status",
                "the workload was removed, and has no exit status: it never ran to its end",
            ),
        })
    }

    /// The sandbox of a workload that has processes.
    pub(super) async fn running_sandbox(
        &self,
        record: &WorkloadRecord,
    ) -> Result<hypercore_runtime::sandbox::Sandbox, Problem> {
        let observed = target::recovered(&self.node, record.id).await;
        observed.sandbox.ok_or_else(|| not_running(record, observed.status.as_str()))
    }
}

/// What is asked for needs the workload's processes, and there are none.
pub(super) fn not_running(record: &WorkloadRecord, status: &str) -> Problem {
    Problem::conflict("not_running", format!("workload {} is {status}", record.id.short()))
        .hint("`hypercore ps -a` shows what runs")
}

/// Returns what was observed last, once that is final or the workload was removed.
pub(super) async fn end(observed: &mut watch::Receiver<Observed>) -> Observed {
    // An error means that the workload was removed: what was seen last is all there will be.
    drop(observed.wait_for(|observed| observed.status.is_final()).await);
    observed.borrow().clone()
}

/// Returns what was observed once the run is over that follows so many restarts, or the workload is.
pub(super) async fn run_end(observed: &mut watch::Receiver<Observed>, restarts: u32) -> Observed {
    let is_over = |seen: &Observed| seen.status.is_final() || seen.restarts > restarts;
    drop(observed.wait_for(is_over).await);
    observed.borrow().clone()
}

/// Why an ended workload has no exit status.
fn without_exit(status: WorkloadStatus, failure: Option<&Failure>) -> Problem {
    match failure {
        Some(failure) => {
            let verb = if status == WorkloadStatus::Lost { "was lost" } else { "failed" };
            Problem::conflict("no_exit_status", format!("the workload {verb}: {failure}"))
                .hint(failure.hint.clone())
        }
        None => Problem::conflict("no_exit_status", "the workload was stopped before it ran"),
    }
}
