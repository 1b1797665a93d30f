//! `Snapshot`: a running microVM is kept with its memory and its disk, and goes on.
//! What a snapshot could not hold is refused before the machine is stopped for a moment.

use std::{path::Path, sync::Arc, time::Duration};

use hypercore_api::v1;
use hypercore_cluster::state::WorkloadRecord;
use hypercore_model::{Isolation, SnapshotName, WorkloadStatus};
use hypercore_runtime::machine::{
    contact::{Contact, ContactError},
    snapshot::{Draft, Origin, Snapshot, SnapshotError, is_temporary, unsaved},
};
use tokio::sync::oneshot;
use tonic::Code;

use super::{Handlers, lifetime, pause, problem::Problem, snapshot_service, target};
use crate::{
    clock,
    events::{Action, Event},
    failure::chain,
    node::Node,
};

/// How long a machine may take to write its memory and its disk. Its monitor has shorter deadlines for each step.
const WRITE_TIME_MAX: Duration = Duration::from_secs(300);

impl Handlers {
    pub(super) async fn snapshot_workload(
        &self,
        call: v1::SnapshotRequest,
    ) -> Result<v1::SnapshotResponse, Problem> {
        let record = target::known(self, &call.id)?;
        let name = snapshot_service::parse(&call.name)?;
        if is_temporary(&name) {
            let message = format!("`{name}` is a name for the node's own snapshots, which go by themselves");
            return Err(Problem::invalid("invalid_snapshot_name", message).hint("choose another name"));
        }
        self.check_saveable(&record).await?;
        let made = self.save(&record, name).await?;
        Ok(v1::SnapshotResponse { snapshot: Some(snapshot_service::shown(&made)) })
    }

    /// Refuses workloads of which there can't be a snapshot now.
    pub(super) async fn check_saveable(&self, record: &WorkloadRecord) -> Result<(), Problem> {
        if record.spec.isolation == Isolation::Container {
            let message = format!(
                "workload {} is a container, and snapshots are not for containers",
                record.id.short()
            );
            return Err(
                Problem::conflict("not_for_containers", message).hint("run it with `--isolation microvm`")
            );
        }
        if let Some(what) = unsaved(&record.spec) {
            let message = format!("workload {} has {what}, which no snapshot can hold", record.id.short());
            return Err(Problem::conflict("snapshot_refused", message)
                .hint("run it without; what it writes to its own disk is in the snapshot"));
        }
        match target::recovered(&self.node, record.id).await.status {
            WorkloadStatus::Running => Ok(()),
            WorkloadStatus::Paused => Err(pause::paused(record)),
            status => Err(lifetime::not_running(record, status.as_str())),
        }
    }

    /// Makes the snapshot.
    pub(super) async fn save(
        &self,
        record: &Arc<WorkloadRecord>,
        name: SnapshotName,
    ) -> Result<Snapshot, Problem> {
        let (node, record) = (Arc::clone(&self.node), Arc::clone(record));
        self.to_its_end(format!("snapshot/{name}"), async move { save(&node, &record, name).await }).await
    }

    /// Does what goes on to its end once it is begun, also when the caller goes away.
    pub(super) async fn to_its_end<T: Send + 'static>(
        &self,
        name: String,
        work: impl Future<Output = Result<T, Problem>> + Send + 'static,
    ) -> Result<T, Problem> {
        let (done, result) = oneshot::channel();
        self.supervisor.spawn_once(name, async move {
            // A caller who is gone doesn't hear of it.
            let _ = done.send(work.await);
        });
        result
            .await
            .map_err(|_| Problem::new(Code::Unavailable, "shutting_down", "the node is shutting down"))?
    }
}

async fn save(node: &Arc<Node>, record: &WorkloadRecord, name: SnapshotName) -> Result<Snapshot, Problem> {
    let (store, workload) = (node.snapshots.clone(), node.directory.workload(record.id));
    let draft = blocking(move || store.begin(&name, &Origin::read(workload.directory())?)).await?;
    let stopped = write(&node.sandboxes.machine_socket(record.id), &draft).await?;
    let (id, spec) = (record.id, record.spec.clone());
    let made = blocking(move || draft.commit(id, &spec, clock::now())).await?;
    let event = Event::workload(Action::Snapshotted, record).with("snapshot", &made.name);
    node.events.publish(event.with("stopped_ms", stopped.as_millis()));
    Ok(made)
}

/// Has the machine written into the draft; answers how long it stood still.
async fn write(socket: &Path, draft: &Draft) -> Result<Duration, Problem> {
    let written = match Contact::open(socket).await {
        Ok(contact) => contact.snapshot(draft.directory(), WRITE_TIME_MAX).await,
        Err(error) => Err(error),
    };
    written.map_err(|error| match error {
        error if error.is_busy() => Problem::conflict("busy", "a snapshot of it is being made already")
            .hint("try again when that is done"),
        error if error.is_disk_full() => Problem::new(
            Code::ResourceExhausted,
            "disk_full",
            format!("the snapshot can't be written: {error}"),
        )
        .hint("free space in the data directory; `hypercore snapshots rm` removes snapshots"),
        error if error.is_unsupported() => Problem::conflict("snapshot_refused", chain(&error))
            .hint("docs/microvms.md lists what each engine supports"),
        error @ ContactError::Link(_) => Problem::fault("snapshot_failed", &error)
            .hint("the machine may have ended: `hypercore ps -a` shows it"),
        error => Problem::fault("snapshot_failed", &error).hint("the agent's log may say more"),
    })
}

/// Does work on the disk away from the threads that serve everybody.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SnapshotError> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|error| Problem::fault("defect", &error))??)
}
