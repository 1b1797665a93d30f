//! From nothing to a running first process: image, network, root filesystem, sandbox.
//! Each step that can fail says which it was, with a code for programs and a hint for people.

use std::{fs, sync::Arc};

use hypercore_cluster::state::WorkloadRecord;
use hypercore_model::{Attempt, Isolation, lifecycle::LifecycleEvent};
use hypercore_runtime::{
    bundle::{self, Bundle, BundleRequest},
    image::{Image, PullProgress},
    network::{Attachment, write_hosts_files},
    sandbox::{LaunchRequest, LogLimits, Sandbox},
};
use tokio::sync::watch;

use super::{
    Keeper, blame,
    outcome::{self, Surroundings},
    recover::note,
};
use crate::{board::Observed, clock, failure::Failure};

impl Keeper {
    /// Brings the workload up, or records why it can't be. A stop that is asked for meanwhile is followed at once
    /// while the image is pulled, and after the next step otherwise.
    pub(super) async fn start(&self, record: &WorkloadRecord, changes: &mut watch::Receiver<u64>) {
        let begun = clock::now();
        let image = tokio::select! {
            image = self.image(record) => image,
            () = self.wait_for_other_wishes(record, changes) => return self.restart_pending(),
        };
        let launched = match image {
            Ok(image) => self.launch(record, image).await,
            Err(failure) => Err(failure),
        };
        match launched {
            Ok(()) => tracing::info!(workload = %self.id, took = ?clock::now().since(begun), "running"),
            Err(failure) => self.fail(record.attempt, failure).await,
        }
    }

    /// A pull was given up for another wish: the attempt stands where it began.
    fn restart_pending(&self) {
        self.update(|observed| *observed = Observed { is_recovered: true, ..Observed::pending() });
    }

    async fn fail(&self, attempt: Attempt, failure: Failure) {
        tracing::warn!(workload = %self.id, code = failure.code, "{failure}");
        self.take_down().await;
        let finished_at = clock::now();
        outcome::write(&self.paths, &outcome::Outcome::failed(attempt, failure.clone(), finished_at));
        self.update(|observed| {
            observed.advance(LifecycleEvent::StartFailed);
            observed.finished_at = Some(finished_at);
            observed.failure = Some(failure);
        });
    }

    /// The image, pulled if the node doesn't have it.
    async fn image(&self, record: &WorkloadRecord) -> Result<Image, Failure> {
        let reference = &record.spec.image;
        if let Some(image) = self.node.images.get(reference) {
            return Ok(image);
        }
        self.update(|observed| observed.advance(LifecycleEvent::PullBegun));
        tracing::info!(workload = %self.id, image = %reference, "pulling");
        let note =
            |progress: PullProgress| self.update(|observed| note_progress(&mut observed.pull, progress));
        self.node
            .images
            .pull(reference, &self.node.registries, &note)
            .await
            .map_err(|error| blame::pull(&error))
    }

    async fn launch(&self, record: &WorkloadRecord, image: Image) -> Result<(), Failure> {
        if record.spec.isolation == Isolation::MicroVm {
            return Err(blame::no_microvm());
        }
        self.update(|observed| observed.advance(LifecycleEvent::StartBegun));
        self.make_directory(record).map_err(|error| blame::disk("prepare its directory", &error))?;
        let image_digest = image.digest;
        let attachment = self.attach(record).await?;
        let bundle = self.bundle(record, image, &attachment).await?;
        let surroundings = Surroundings { attachment, image_digest, stop_signal: bundle.stop_signal };
        outcome::write_surroundings(&self.paths, &surroundings)
            .map_err(|error| blame::disk("write its record", &error))?;
        let sandbox = self.sandbox(record, &bundle).await?;
        self.update(|observed| {
            observed.advance(LifecycleEvent::Started);
            observed.started_at = Some(sandbox.started_at());
            observed.sandbox = Some(sandbox);
            note(observed, surroundings);
        });
        Ok(())
    }

    fn make_directory(&self, record: &WorkloadRecord) -> std::io::Result<()> {
        fs::create_dir_all(self.paths.directory())?;
        outcome::write_json(&self.paths.spec(), &record.spec)?;
        outcome::write_attempt(&self.paths, record.attempt)
    }

    async fn attach(&self, record: &WorkloadRecord) -> Result<Attachment, Failure> {
        let attached = self.node.network.attach(self.id, &record.spec.ports).await;
        let attachment = attached.map_err(|error| blame::attach(&error))?;
        let hostname = bundle::hostname(self.id, &record.spec);
        let written = write_hosts_files(self.paths.directory(), &hostname, attachment.address);
        written.map_err(|error| blame::hosts(&error))?;
        Ok(attachment)
    }

    async fn bundle(
        &self,
        record: &WorkloadRecord,
        image: Image,
        attachment: &Attachment,
    ) -> Result<Bundle, Failure> {
        let node = Arc::clone(&self.node);
        let (id, spec) = (self.id, record.spec.clone());
        let (directory, netns) = (self.paths.directory().to_owned(), attachment.netns.clone());
        let prepared = tokio::task::spawn_blocking(move || {
            let cgroup_path = node.cgroups.path_of(id);
            let resources = node.cgroups.resources(&spec);
            bundle::prepare(&BundleRequest {
                id,
                spec: &spec,
                image: &image.config,
                layers: &image.layers,
                directory: &directory,
                volumes: &node.volumes,
                reserved: &[node.directory.data().to_owned(), node.runtime_directory.clone()],
                netns: Some(&netns),
                cgroup_path: &cgroup_path,
                resources,
            })
        });
        prepared.await.map_err(|error| blame::defect(&error))?.map_err(|error| blame::bundle(&error))
    }

    async fn sandbox(&self, record: &WorkloadRecord, bundle: &Bundle) -> Result<Sandbox, Failure> {
        let request = LaunchRequest {
            id: self.id,
            attempt: record.attempt,
            directory: bundle.directory.clone(),
            tty: record.spec.tty,
            stdin_open: record.spec.stdin_open,
            oom_events: Some(self.node.cgroups.oom_events(self.id)),
            log: LogLimits::default(),
        };
        self.node.sandboxes.launch(request).await.map_err(|error| blame::launch(&error))
    }
}

/// Keeps the latest of each layer.
fn note_progress(pull: &mut Vec<PullProgress>, progress: PullProgress) {
    match pull.iter_mut().find(|known| known.layer == progress.layer) {
        Some(known) => *known = progress,
        None => pull.push(progress),
    }
}
