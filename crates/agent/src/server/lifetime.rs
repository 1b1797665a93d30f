//! Stop, kill, remove, wait: the calls that end a workload or wait for its end.

use std::time::Duration;

use hypercore_api::v1;
use hypercore_cluster::state::{Command, WorkloadRecord};
use hypercore_model::{ExitStatus, WorkloadStatus, limits::STOP_GRACE_MS_MAX};
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
        let record = target::known(&self.node, &call.id)?;
        let wanted = || record.spec.stop_grace_ms.unwrap_or(GRACE_MS_DEFAULT);
        let grace_ms = call.grace_period_ms.map_or_else(wanted, u64::from).min(STOP_GRACE_MS_MAX);
        let signal = request::optional_signal(call.signal)?;
        let mut observed = target::observe(&self.node, record.id);
        if !observed.borrow().status.is_final() {
            self.node
                .ledger
                .submit(Command::StopWorkload { id: record.id, signal, grace_ms })
                .await?;
            end(&mut observed).await;
        }
        Ok(v1::VmStopResponse { id: record.id.to_string() })
    }

    pub(super) async fn kill_workload(&self, call: v1::KillRequest) -> Result<v1::KillResponse, Problem> {
        let record = target::known(&self.node, &call.id)?;
        let signal = request::signal(call.signal, Signal::SIGKILL)?;
        let sandbox = self.running_sandbox(&record).await?;
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
        let record = target::known(&self.node, &call.id)?;
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
        let exit = self.exit_of_target(&target::any(&self.node, &call.id)?).await?;
        Ok(v1::WaitResponse { exit: Some(exit.into()) })
    }

    /// Waits for the end, unless that is past, and answers how it was.
    pub(super) async fn exit_of_target(&self, target: &Target) -> Result<ExitStatus, Problem> {
        match target {
            Target::Known(record) => self.exit_of(record).await,
            Target::Gone(paths) => gone_exit(paths),
        }
    }

    async fn exit_of(&self, record: &WorkloadRecord) -> Result<ExitStatus, Problem> {
        let mut observed = target::observe(&self.node, record.id);
        let last = end(&mut observed).await;
        // A workload that was removed may have left its exit status on disk alone.
        let recorded = || gone_exit(&self.node.directory.workload(record.id)).ok();
        last.exit.or_else(recorded).ok_or_else(|| without_exit(last.status, last.failure.as_ref()))
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

/// How a removed workload ended, from the record its shim wrote; else why it did not, from the one its keeper wrote.
fn gone_exit(paths: &WorkloadPaths) -> Result<ExitStatus, Problem> {
    let bytes = std::fs::read(paths.exit());
    let record = bytes.ok().and_then(|bytes| serde_json::from_slice::<ExitRecord>(&bytes).ok());
    record.map(|record| record.exit).ok_or_else(|| match keeper::read_last(paths) {
        Some((status, failure)) => without_exit(status, failure.as_ref()),
        None => Problem::conflict(
            "no_exit_status",
            "the workload was removed, and has no exit status: it never ran to its end",
        ),
    })
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
