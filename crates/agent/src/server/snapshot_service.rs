//! `SnapshotService`: which snapshots there are, and their end. Who is bound to a tenant sees those of its workloads;
//! one that can't be read is nobody's but the whole node's. It refuses to make any: `Snapshot` does.

use hypercore_api::v1::{self, snapshot_service_server::SnapshotService};
use hypercore_model::{SnapshotName, machine::Monitor};
use hypercore_runtime::machine::snapshot::{Look, Snapshot, SnapshotError, SnapshotStore, is_temporary};
use tonic::{Code, Request, Response, Status};

use super::{Handlers, problem::Problem, snapshot::blocking};
use crate::{
    events::{Action, Event},
    failure::chain,
    keeper::blame,
};

#[tonic::async_trait]
impl SnapshotService for Handlers {
    async fn list(
        &self,
        call: Request<v1::SnapshotListRequest>,
    ) -> Result<Response<v1::SnapshotListResponse>, Status> {
        let (this, call) = self.open(call)?;
        Ok(Response::new(this.list_snapshots(&call).await?))
    }

    async fn remove(
        &self,
        call: Request<v1::SnapshotRemoveRequest>,
    ) -> Result<Response<v1::SnapshotRemoveResponse>, Status> {
        let (this, call) = self.open(call)?;
        Ok(Response::new(this.remove_snapshot(&call).await?))
    }
}

impl Handlers {
    async fn list_snapshots(
        &self,
        call: &v1::SnapshotListRequest,
    ) -> Result<v1::SnapshotListResponse, Problem> {
        let (caller, store) = (self.caller()?.clone(), self.node.snapshots.clone());
        let is_verified = call.verify;
        let snapshots = blocking(move || {
            let mut looks = store.list()?;
            looks.retain(|look| match &look.found {
                _ if is_temporary(&look.name) => false,
                Ok(snapshot) => caller.sees(&snapshot.manifest.spec.tenant),
                Err(_) => !caller.is_bound(),
            });
            Ok(looks.into_iter().map(|look| looked(&store, look, is_verified)).collect())
        });
        Ok(v1::SnapshotListResponse { snapshots: snapshots.await? })
    }

    async fn remove_snapshot(
        &self,
        call: &v1::SnapshotRemoveRequest,
    ) -> Result<v1::SnapshotRemoveResponse, Problem> {
        let name = parse(&call.name)?;
        let tenant = match self.snapshot(&name).await {
            Ok(snapshot) => snapshot.manifest.spec.tenant,
            // One that is broken can be removed too, by those who may see it.
            Err(problem) if problem.is_not_found() || self.caller()?.is_bound() => return Err(problem),
            Err(_) => hypercore_model::TenantName::default(),
        };
        let (store, removed) = (self.node.snapshots.clone(), name.clone());
        blocking(move || store.remove(&removed)).await?;
        self.node.events.publish(Event::snapshot(Action::Removed, name.as_str(), tenant));
        Ok(v1::SnapshotRemoveResponse { name: name.to_string() })
    }

    /// A snapshot that the caller may know of.
    pub(super) async fn snapshot(&self, name: &SnapshotName) -> Result<Snapshot, Problem> {
        let (store, sought) = (self.node.snapshots.clone(), name.clone());
        let caller = self.caller()?;
        let unknown = || Problem::from(SnapshotError::NotFound(name.clone()));
        match blocking(move || store.get(&sought)).await {
            Ok(snapshot) if caller.sees(&snapshot.manifest.spec.tenant) => Ok(snapshot),
            Ok(_) => Err(unknown()),
            Err(_) if caller.is_bound() => Err(unknown()),
            Err(problem) => Err(problem),
        }
    }
}

/// A snapshot's name, as callers write it.
pub(super) fn parse(text: &str) -> Result<SnapshotName, Problem> {
    text.parse()
        .map_err(|error| Problem::invalid("invalid_snapshot_name", format!("not a snapshot's name: {error}")))
}

/// One snapshot as the API shows it.
pub(super) fn shown(snapshot: &Snapshot) -> v1::Snapshot {
    let manifest = &snapshot.manifest;
    let engine = match manifest.machine.monitor {
        Monitor::Firecracker => "firecracker",
        Monitor::CloudHypervisor => "cloud-hypervisor",
        Monitor::Qemu => "qemu",
    };
    v1::Snapshot {
        name: snapshot.name.to_string(),
        workload: manifest.workload.to_string(),
        workload_name: manifest.spec.name.as_ref().map(ToString::to_string).unwrap_or_default(),
        image: manifest.spec.image.to_string(),
        created_at_ms: manifest.created_at.unix_ms(),
        size_bytes: snapshot.size_bytes,
        engine: engine.to_owned(),
        engine_version: manifest.machine.version.clone(),
        memory_bytes: u64::from(manifest.machine.memory_mib) << 20,
        cpus: manifest.machine.cpus,
        is_mapped: manifest.machine.is_mapped,
        tenant: manifest.spec.tenant.to_string(),
        problem: String::new(),
    }
}

/// What is shown of a look at one, after another look at every file of it if that was asked for.
fn looked(store: &SnapshotStore, look: Look, is_verified: bool) -> v1::Snapshot {
    match look.found {
        Ok(snapshot) => {
            let verified = if is_verified { store.verify(&snapshot) } else { Ok(()) };
            let problem = verified.err().map(|error| chain(&error)).unwrap_or_default();
            v1::Snapshot { problem, ..shown(&snapshot) }
        }
        Err(error) => {
            v1::Snapshot { name: look.name.to_string(), problem: chain(&error), ..v1::Snapshot::default() }
        }
    }
}

impl From<SnapshotError> for Problem {
    fn from(error: SnapshotError) -> Self {
        let kind = match &error {
            SnapshotError::Exists(_) => Code::AlreadyExists,
            SnapshotError::NotFound(_) => Code::NotFound,
            SnapshotError::Format { .. }
            | SnapshotError::Manifest { .. }
            | SnapshotError::File { .. }
            | SnapshotError::Replaced(_) => Code::FailedPrecondition,
            SnapshotError::Engine { .. } => Code::ResourceExhausted,
            full if full.is_disk_full() => Code::ResourceExhausted,
            SnapshotError::Unwritten(_) | SnapshotError::Disk { .. } => Code::Internal,
        };
        Self::of_failure(kind, &blame::snapshot(&error))
    }
}
