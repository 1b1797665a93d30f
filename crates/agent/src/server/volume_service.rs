//! `VolumeService`: storage of the node that outlives workloads.
//! It refuses to remove a volume that any workload has in its spec, also one that has ended: it may be started again.

use std::{collections::BTreeMap, sync::Arc};

use hypercore_api::v1::{self, volume_service_server::VolumeService};
use hypercore_model::{
    MountSource, VolumeName, WorkloadId,
    io_limits::check_disk_size,
    limits::{LABEL_LEN_MAX, LABELS_COUNT_MAX},
};
use hypercore_runtime::volume::{Volume, VolumeError, VolumeForm};
use tonic::{Code, Request, Response, Status};

use super::{Handlers, problem::Problem};
use crate::{
    clock,
    events::{Action, Event},
    node::Node,
};

/// Characters of a workload id that make a drawn name.
const DRAWN_LEN: usize = 12;

#[tonic::async_trait]
impl VolumeService for Handlers {
    async fn create(
        &self,
        call: Request<v1::VolumeCreateRequest>,
    ) -> Result<Response<v1::VolumeCreateResponse>, Status> {
        let call = call.into_inner();
        let name = if call.name.is_empty() { drawn()? } else { parse(&call.name)? };
        let labels = labels(call.labels)?;
        let capacity_bytes = capacity(call.capacity_bytes)?;
        let made = self.on_volumes(move |node| node.volumes.create(&name, labels, capacity_bytes)).await?;
        self.node.events.publish(Event::volume(Action::Created, made.name.as_str()));
        Ok(Response::new(v1::VolumeCreateResponse { volume: Some(self.shown(&made, 0)) }))
    }

    async fn list(
        &self,
        _: Request<v1::VolumeListRequest>,
    ) -> Result<Response<v1::VolumeListResponse>, Status> {
        let volumes = self.on_volumes(|node| node.volumes.list()).await?;
        let volumes = volumes.iter().map(|volume| self.shown(volume, 0)).collect();
        Ok(Response::new(v1::VolumeListResponse { volumes }))
    }

    async fn inspect(
        &self,
        call: Request<v1::VolumeInspectRequest>,
    ) -> Result<Response<v1::VolumeInspectResponse>, Status> {
        let name = parse(&call.into_inner().name)?;
        let look = move |node: &Node| {
            let volume = node.volumes.get(&name)?;
            let size_bytes = node.volumes.size_bytes(&volume)?;
            Ok((volume, size_bytes))
        };
        let (volume, size_bytes) = self.on_volumes(look).await?;
        Ok(Response::new(v1::VolumeInspectResponse { volume: Some(self.shown(&volume, size_bytes)) }))
    }

    async fn remove(
        &self,
        call: Request<v1::VolumeRemoveRequest>,
    ) -> Result<Response<v1::VolumeRemoveResponse>, Status> {
        let name = parse(&call.into_inner().name)?;
        let removed = name.to_string();
        self.on_volumes(move |node| node.volumes.remove(&name, || users(node, &name))).await?;
        self.node.events.publish(Event::volume(Action::Removed, &removed));
        Ok(Response::new(v1::VolumeRemoveResponse { name: removed }))
    }
}

impl Handlers {
    /// Does work on the disk away from the threads that serve everybody.
    async fn on_volumes<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Node) -> Result<T, VolumeError> + Send + 'static,
    ) -> Result<T, Problem> {
        let node = Arc::clone(&self.node);
        let done = tokio::task::spawn_blocking(move || work(&node)).await;
        Ok(done.map_err(|error| Problem::fault("defect", &error))??)
    }

    fn shown(&self, volume: &Volume, size_bytes: u64) -> v1::Volume {
        v1::Volume {
            name: volume.name.to_string(),
            created_at_ms: volume.created_at.unix_ms(),
            labels: volume.labels.clone().into_iter().collect(),
            path: volume.data.display().to_string(),
            size_bytes,
            used_by: users(&self.node, &volume.name).iter().map(WorkloadId::to_string).collect(),
            form: volume.form.as_str().to_owned(),
            capacity_bytes: match volume.form {
                VolumeForm::Block { capacity_bytes } => capacity_bytes,
                VolumeForm::Directory | VolumeForm::Open => 0,
            },
        }
    }
}

/// The workloads that have the volume in their spec.
fn users(node: &Node, name: &VolumeName) -> Vec<WorkloadId> {
    node.ledger.read(|state| {
        let has = |source: &MountSource| matches!(source, MountSource::Volume(used) if used == name);
        let users = state.workloads().filter(|record| record.spec.mounts.iter().any(|it| has(&it.source)));
        users.map(|record| record.id).collect()
    })
}

fn parse(text: &str) -> Result<VolumeName, Problem> {
    text.parse()
        .map_err(|error| Problem::invalid("invalid_volume_name", format!("not a volume's name: {error}")))
}

fn capacity(bytes: u64) -> Result<Option<u64>, Problem> {
    let given = (bytes > 0).then_some(bytes);
    given
        .map_or(Ok(()), check_disk_size)
        .map_err(|error| Problem::invalid("invalid_request", error.to_string()))?;
    Ok(given)
}

/// A name for a volume that was given none.
fn drawn() -> Result<VolumeName, Problem> {
    let id = clock::new_workload_id().map_err(|error| Problem::fault("no_entropy", &error))?;
    let digits: String = id.to_string().chars().filter(char::is_ascii_hexdigit).take(DRAWN_LEN).collect();
    parse(&digits)
}

fn labels(given: impl IntoIterator<Item = (String, String)>) -> Result<BTreeMap<String, String>, Problem> {
    let labels: BTreeMap<_, _> = given.into_iter().collect();
    if labels.len() > LABELS_COUNT_MAX {
        let message = format!("{} labels are too many; at most {LABELS_COUNT_MAX} are allowed", labels.len());
        return Err(Problem::invalid("invalid_request", message));
    }
    let is_good = |(key, value): (&String, &String)| {
        !key.is_empty()
            && !key.contains(char::is_control)
            && key.len() <= LABEL_LEN_MAX
            && value.len() <= LABEL_LEN_MAX
    };
    match labels.iter().find(|label| !is_good(*label)) {
        None => Ok(labels),
        Some((key, _)) => {
            let message = format!(
                "the label `{}` must have a key, no control characters in it, and at most {LABEL_LEN_MAX} bytes",
                key.escape_default()
            );
            Err(Problem::invalid("invalid_request", message))
        }
    }
}

impl From<VolumeError> for Problem {
    fn from(error: VolumeError) -> Self {
        match error {
            VolumeError::Exists(_) => Self::new(Code::AlreadyExists, "volume_exists", error.to_string())
                .hint("choose another name, or use the one that is there"),
            VolumeError::NotFound(_) => Self::not_found("volume_not_found", error.to_string())
                .hint("`hypercore volume ls` lists every volume"),
            VolumeError::InUse { .. } => Self::conflict("volume_in_use", error.to_string())
                .hint("remove those workloads first: `hypercore rm`"),
            error => Self::fault("volume_failed", &error)
                .hint("check that the disk of the data directory has room and is writable"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_names_are_names_and_differ() {
        assert_ne!(drawn().unwrap(), drawn().unwrap());
    }

    #[test]
    fn labels_are_bounded() {
        let of = |key: &str, value: &str| labels([(key.to_owned(), value.to_owned())]);
        assert_eq!(of("team", "blue").unwrap().len(), 1);
        let long = "x".repeat(LABEL_LEN_MAX + 1);
        for (key, value) in [("", "x"), ("a\u{1b}", "x"), (long.as_str(), "x"), ("x", long.as_str())] {
            assert!(of(key, value).is_err(), "{key:?}");
        }
        assert!(labels((0..=LABELS_COUNT_MAX).map(|n| (n.to_string(), String::new()))).is_err());
    }
}
