//! Where a workload's files are: in its own view while it has processes, else in its image and what it wrote.

use std::path::PathBuf;

use hypercore_api::v1;
use hypercore_cluster::state::WorkloadRecord;
use hypercore_copy::{CopyError, Root};
use hypercore_runtime::{bundle::stopped_root, sandbox::Engine};

use super::super::{Handlers, problem::Problem, target};

/// Where a workload's files are.
#[derive(Debug)]
pub(super) enum Files {
    /// What this process sees; `cgroup` tells it from another one that has got its number.
    Running { pid: i32, cgroup: String },
    /// The image's layers, bottom first, and the workload's own directory.
    /// The engine mounts the root of a workload with a user namespace.
    Stopped { layers: Vec<PathBuf>, directory: PathBuf, engine: Option<PathBuf> },
}

impl Files {
    /// Opens them. A thread that opened those of a stopped workload must do nothing else any more.
    pub(super) fn root(&self) -> Result<Root, CopyError> {
        match self {
            Self::Running { pid, cgroup } => Root::of_process(*pid, cgroup),
            Self::Stopped { layers, directory, engine } => stopped_root(layers, directory, engine.as_deref()),
        }
    }
}

impl Handlers {
    pub(super) async fn files_of(
        &self,
        record: &WorkloadRecord,
        start: &v1::CopyStart,
    ) -> Result<Files, Problem> {
        let observed = target::recovered(&self.node, record.id).await;
        if let Some(sandbox) = &observed.sandbox {
            return Ok(Files::Running { pid: sandbox.pid(), cgroup: record.id.to_string() });
        }
        let directory = self.node.directory.workload(record.id).directory().to_owned();
        if !observed.status.is_final() || !directory.join("upper").is_dir() {
            let message =
                format!("workload {} is {}, and has no files yet", record.id.short(), observed.status);
            return Err(Problem::conflict("no_files", message).hint("start it first"));
        }
        check_mounts(record, start)?;
        let digest = observed.image_digest;
        let image = self.node.images.store.list().into_iter().find(|image| Some(image.digest) == digest);
        let image = image.ok_or_else(|| {
            let message = format!("the image that workload {} was made of is gone", record.id.short());
            Problem::conflict("image_gone", message)
                .hint(format!("pull it again: `hypercore image pull {}`", record.spec.image))
        })?;
        let engine = self.node.sandboxes.engine(Engine::Container).to_owned();
        let engine = record.spec.user_namespace.then_some(engine);
        Ok(Files::Stopped { layers: image.layers, directory, engine })
    }
}

/// What is mounted into a workload is there only while it runs; without it, a copy would go beneath the mount.
fn check_mounts(record: &WorkloadRecord, start: &v1::CopyStart) -> Result<(), Problem> {
    let path = PathBuf::from("/").join(&start.path);
    let is_within = |target: &str| path.starts_with(target);
    if let Some(mount) = record.spec.mounts.iter().find(|mount| is_within(&mount.target)) {
        let message = format!("{} is mounted only while the workload runs", mount.target);
        return Err(
            Problem::conflict("not_mounted", message).hint("start it first, or use a path of its own")
        );
    }
    if start.into && record.spec.read_only_rootfs {
        let message = format!("workload {} has a read-only root", record.id.short());
        return Err(Problem::conflict("read_only", message));
    }
    Ok(())
}
