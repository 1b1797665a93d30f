//! `Pause` and `Resume`: the processes of a workload are held where they are by its cgroup's freezer.
//! That one is paused is a fact of the kernel and nothing else: the board shows what the freezer says, so that an agent
//! that starts again finds it paused still. It refuses to pause what is about to end.

use std::sync::Arc;

use hypercore_api::v1;
use hypercore_cluster::state::WorkloadRecord;
use hypercore_model::{WorkloadId, WorkloadStatus, lifecycle::LifecycleEvent};
use hypercore_runtime::{
    cgroup::{Cgroups, FreezeError},
    sandbox::Sandbox,
};

use super::{Handlers, lifetime, problem::Problem, target};
use crate::{
    events::{Action, Event},
    node::Node,
};

impl Handlers {
    pub(super) async fn pause_workload(&self, call: v1::PauseRequest) -> Result<v1::PauseResponse, Problem> {
        let record = target::known(self, &call.id)?;
        match target::recovered(&self.node, record.id).await.status {
            WorkloadStatus::Running => {}
            WorkloadStatus::Paused => {
                return Err(Problem::conflict("already_paused", told(&record, WorkloadStatus::Paused)));
            }
            status => return Err(lifetime::not_running(&record, status.as_str())),
        }
        self.with_freezer(&record, Cgroups::freeze).await?;
        match settle(&self.node, record.id) {
            WorkloadStatus::Paused => {
                self.node.events.publish(Event::workload(Action::Paused, &record));
                Ok(v1::PauseResponse { id: record.id.to_string() })
            }
            status => {
                // It was asked to end while it froze, and that must not wait.
                self.with_freezer(&record, Cgroups::thaw).await?;
                Err(lifetime::not_running(&record, status.as_str()))
            }
        }
    }

    pub(super) async fn resume_workload(
        &self,
        call: v1::ResumeRequest,
    ) -> Result<v1::ResumeResponse, Problem> {
        let record = target::known(self, &call.id)?;
        match target::recovered(&self.node, record.id).await.status {
            WorkloadStatus::Paused => {}
            status => return Err(Problem::conflict("not_paused", told(&record, status))),
        }
        self.with_freezer(&record, Cgroups::thaw).await?;
        settle(&self.node, record.id);
        self.node.events.publish(Event::workload(Action::Resumed, &record));
        Ok(v1::ResumeResponse { id: record.id.to_string() })
    }

    /// The sandbox of a workload whose processes run: one that is paused could not answer.
    pub(super) async fn awake_sandbox(&self, record: &WorkloadRecord) -> Result<Sandbox, Problem> {
        if target::recovered(&self.node, record.id).await.status == WorkloadStatus::Paused {
            return Err(paused(record));
        }
        self.running_sandbox(record).await
    }

    /// Freezing may take seconds, so it is done away from the threads that serve everybody.
    async fn with_freezer(
        &self,
        record: &WorkloadRecord,
        work: fn(&Cgroups, WorkloadId) -> Result<(), FreezeError>,
    ) -> Result<(), Problem> {
        let (node, id) = (Arc::clone(&self.node), record.id);
        let done = tokio::task::spawn_blocking(move || work(&node.cgroups, id)).await;
        match done.map_err(|error| Problem::fault("defect", &error))? {
            Ok(()) => Ok(()),
            Err(FreezeError::Absent(_)) => Err(lifetime::not_running(record, "at its end")),
            Err(error @ FreezeError::Slow) => Err(Problem::fault("pause_failed", &error)
                .hint("a process waits for a disk or a network file system; try again")),
            Err(error) => Err(Problem::fault("pause_failed", &error)),
        }
    }
}

/// What is asked for needs processes that go on.
pub(super) fn paused(record: &WorkloadRecord) -> Problem {
    Problem::conflict("paused", told(record, WorkloadStatus::Paused))
        .hint(format!("let it go on with `hypercore resume {}`", record.id.short()))
}

fn told(record: &WorkloadRecord, status: WorkloadStatus) -> String {
    format!("workload {} is {status}", record.id.short())
}

/// Brings the board up to what the freezer says, under the board's lock: of two callers who pause and resume at once,
/// the later one writes what both led to. Answers the status then.
pub(crate) fn settle(node: &Node, id: WorkloadId) -> WorkloadStatus {
    let mut status = WorkloadStatus::Pending;
    node.board.update(id, |observed| {
        match (observed.status, node.cgroups.is_frozen(id)) {
            (WorkloadStatus::Running, Ok(true)) => observed.advance(LifecycleEvent::Frozen),
            (WorkloadStatus::Paused, Ok(false)) => observed.advance(LifecycleEvent::Thawed),
            _ => {}
        }
        status = observed.status;
    });
    status
}
