//! `Restore`: commits the wish for a workload that goes on where a snapshot was made. It has an id, a name, an address
//! and ports of its own; everything else is as it was. It refuses what would fail when the machine goes on, while the
//! caller still listens.

use hypercore_api::v1;
use hypercore_model::{PortMapping, WorkloadId, WorkloadName, WorkloadSpec};
use hypercore_runtime::machine::snapshot::{Manifest, Snapshot, SnapshotError};

use super::{Handlers, problem::Problem, request, snapshot_service};
use crate::{
    clock,
    events::{Action, Event},
    failure::chain,
    memory,
};

/// What a caller wants of a restored workload.
#[derive(Debug)]
pub(super) struct Wanted {
    /// Chosen by the caller.
    pub(super) id: Option<WorkloadId>,
    pub(super) name: Option<WorkloadName>,
    /// `None` publishes what the snapshot did.
    pub(super) ports: Option<Vec<PortMapping>>,
}

impl Handlers {
    pub(super) async fn restore_snapshot(
        &self,
        call: v1::RestoreRequest,
    ) -> Result<v1::VmSpawnResponse, Problem> {
        let name = snapshot_service::parse(&call.snapshot)?;
        let wanted = request::restore(&call)?;
        let snapshot = self.snapshot(&name).await?;
        let mut spec = WorkloadSpec {
            ports: wanted.ports.unwrap_or_else(|| snapshot.manifest.spec.ports.clone()),
            ..spec_of(&snapshot.manifest, &name, wanted.name)
        };
        spec.validate().map_err(|errors| {
            let mistakes: Vec<_> = errors.iter().map(ToString::to_string).collect();
            Problem::invalid("invalid_request", mistakes.join("; "))
        })?;
        self.caller()?.admit(&mut spec, false)?;
        self.check_engine(&snapshot).await?;
        memory::require(&spec, 1)?;
        let id = match wanted.id {
            Some(id) => id,
            None => clock::new_workload_id().map_err(|error| Problem::fault("no_entropy", &error))?,
        };
        let spawned = self.create(id, spec).await?;
        if let Some(record) = self.node.ledger.read(|state| state.workload(&id).cloned()) {
            self.node.events.publish(Event::workload(Action::Restored, &record).with("snapshot", &name));
        }
        Ok(spawned)
    }

    /// Refuses a snapshot that nothing here can go on with.
    async fn check_engine(&self, snapshot: &Snapshot) -> Result<(), Problem> {
        let made_by = &snapshot.manifest.machine;
        match self.node.machines.choose(Some(made_by.monitor)).await {
            Ok((platform, _)) => Ok(snapshot.check_engine(&platform)?),
            Err(error) => {
                let (name, of) = (snapshot.name.clone(), made_by.engine());
                Err(SnapshotError::Engine { name, of, here: format!("none: {}", chain(&error)) }.into())
            }
        }
    }
}

/// The spec of what was in a snapshot, for a workload of another name.
pub(super) fn spec_of(
    manifest: &Manifest,
    snapshot: &hypercore_model::SnapshotName,
    name: Option<WorkloadName>,
) -> WorkloadSpec {
    WorkloadSpec {
        name,
        // Two machines of one name would be taken for each other: it is called after its own name.
        hostname: None,
        snapshot: Some(snapshot.clone()),
        vmm: Some(manifest.machine.monitor),
        ..manifest.spec.clone()
    }
}
