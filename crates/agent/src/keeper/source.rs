//! What a run begins with: the workload's image, or a snapshot when it is the first run of one that was restored.
//! It refuses to begin a later run with a snapshot: what the runs before it wrote would be lost.

use std::{fs, sync::Arc};

use hypercore_cluster::state::WorkloadRecord;
use hypercore_model::SnapshotName;
use hypercore_runtime::{
    image::{Image, ImageLease},
    machine::snapshot::{Lent, SnapshotError},
};

use super::{Keeper, blame};
use crate::failure::Failure;

/// What a run begins with.
pub(super) struct Source {
    /// The image; of a snapshot what it says of its image, without layers.
    pub(super) image: Image,
    /// What the machine goes on with instead of booting.
    pub(super) lent: Option<Lent>,
    /// Keeps the image on the node for as long as this lives.
    _lease: Option<ImageLease>,
}

impl Source {
    /// An image that the node has.
    pub(super) fn of_image(lease: ImageLease) -> Self {
        Self { image: Image::clone(&lease), lent: None, _lease: Some(lease) }
    }

    fn of_snapshot(record: &WorkloadRecord, lent: Lent) -> Self {
        let manifest = &lent.manifest;
        let image = Image {
            reference: record.spec.image.clone(),
            digest: manifest.image_digest,
            size_bytes: 0,
            created_at: manifest.created_at,
            config: Arc::new(manifest.image.clone()),
            layers: Vec::new(),
        };
        Self { image, lent: Some(lent), _lease: None }
    }
}

impl Keeper {
    /// The snapshot that this run goes on from, if it does.
    pub(super) async fn snapshot(&self, record: &WorkloadRecord) -> Option<Result<Source, Failure>> {
        let name = record.spec.snapshot.clone().filter(|_| self.observed().restarts == 0)?;
        let lent = self.lend(name).await;
        Some(lent.map(|lent| Source::of_snapshot(record, lent)))
    }

    #[tracing::instrument(name = "lend", skip_all, fields(workload = %self.id))]
    async fn lend(&self, name: SnapshotName) -> Result<Lent, Failure> {
        let (store, directory) = (self.node.snapshots.clone(), self.paths.directory().to_owned());
        let lent = tokio::task::spawn_blocking(move || {
            let failed = |source| SnapshotError::Disk { step: "make", path: directory.clone(), source };
            fs::create_dir_all(&directory).map_err(failed)?;
            store.lend(&name, &directory)
        });
        let lent = lent.await.map_err(|error| blame::defect(&error))?;
        lent.map_err(|error| blame::snapshot(&error))
    }
}
