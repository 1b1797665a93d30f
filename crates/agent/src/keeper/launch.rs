//! From nothing to a running first process: image, network, root filesystem, sandbox.
//! Each step that can fail says which it was, with a code for programs and a hint for people.

use std::{fs, sync::Arc, time::Duration};

use hypercore_cluster::state::WorkloadRecord;
use hypercore_model::{ImageReference, Isolation, lifecycle::LifecycleEvent};
use hypercore_runtime::{
    bundle::{self, Bundle, BundleRequest, Mapping},
    image::{Image, ImageLease, PullProgress},
    machine::{
        self,
        bundle::{MachineRequest, Platform},
    },
    network::{Attaching, Attachment, AttachmentRequest, write_hosts_files},
    sandbox::{Engine, LaunchRequest, LogLimits, Sandbox},
};
use tokio::{sync::watch, time::Instant};

use super::{
    Keeper, blame,
    end::End,
    outcome::{self, Surroundings},
    recover::note,
    source::Source,
};
use crate::{
    board::Observed,
    clock,
    events::{Action, Event},
    failure::Failure,
    machines::{Choice, RunBy},
};

/// How long a container's engine may take to start the first process. It needs some milliseconds.
const START_TIME_MAX: Duration = Duration::from_secs(60);
/// What the engine of a microVM gets besides its guest.
const START_TIME_SPARE: Duration = Duration::from_secs(10);

impl Keeper {
    /// Brings the workload up, or records why it can't be. A stop that is asked for meanwhile is followed at once
    /// while the image is pulled, and after the next step otherwise.
    #[tracing::instrument(name = "spawn", skip_all, fields(workload = %self.id))]
    pub(super) async fn start(&self, record: &WorkloadRecord, changes: &mut watch::Receiver<u64>) {
        let begun = Instant::now();
        let source = match self.snapshot(record).await {
            Some(source) => source,
            None => tokio::select! {
                image = self.image(record) => image.map(Source::of_image),
                () = self.wait_for_other_wishes(record, changes) => return self.restart_pending(),
            },
        };
        let launched = match source {
            Ok(source) => self.launch(record, source).await,
            Err(failure) => Err(failure),
        };
        match launched {
            Ok(()) => {
                tracing::info!(workload = %self.id, took = ?begun.elapsed(), "running");
                self.node.events.publish(match self.observed().restarts {
                    0 => Event::workload(Action::Started, record),
                    restarts => Event::workload(Action::Restarted, record).with("restarts", restarts),
                });
            }
            Err(failure) => self.settle(record, End::NotStarted(failure, clock::now())).await,
        }
    }

    /// A pull was given up for another wish: the attempt stands where it began.
    fn restart_pending(&self) {
        self.update(|observed| {
            *observed = Observed {
                is_recovered: true,
                restarts: observed.restarts,
                last_run: observed.last_run.take(),
                image_digest: observed.image_digest,
                ..Observed::pending()
            };
        });
    }

    /// The image, pulled if the node doesn't have it. It stays for as long as the lease is held, whatever is pruned.
    #[tracing::instrument(name = "image", skip_all, fields(workload = %self.id))]
    async fn image(&self, record: &WorkloadRecord) -> Result<ImageLease, Failure> {
        let (reference, images) = (&record.spec.image, &self.node.images);
        let mut earlier = self.earlier_image(reference).await;
        let mut is_pulling = false;
        loop {
            let present = match earlier.take() {
                Some(image) => Some(image),
                None => images.store.lease(reference).await,
            };
            if let Some(image) = present {
                let admitted = images.store.admit(&image, &images.settings).await;
                return admitted.map(|()| image).map_err(|error| blame::pull(&error));
            }
            if !std::mem::replace(&mut is_pulling, true) {
                self.update(|observed| observed.advance(LifecycleEvent::PullBegun));
            }
            tracing::info!(workload = %self.id, image = %reference, "pulling");
            let note =
                |progress: PullProgress| self.update(|observed| note_progress(&mut observed.pull, progress));
            let pulled = images.store.pull(reference, &images.settings, &note).await;
            let pulled = pulled.map_err(|error| blame::pull(&error))?;
            let event = Event::image(Action::Pulled, reference.to_string());
            self.node.events.publish(event.with("source", pulled.source));
        }
    }

    /// What the run before was made of: the files it wrote lie over that, whatever its name means by now.
    async fn earlier_image(&self, reference: &ImageReference) -> Option<ImageLease> {
        let observed = self.observed();
        let digest = observed.image_digest.filter(|_| observed.restarts > 0)?;
        self.node.images.store.lease_manifest(reference, digest).await
    }

    async fn launch(&self, record: &WorkloadRecord, source: Source) -> Result<(), Failure> {
        self.update(|observed| {
            observed.due = None;
            observed.advance(LifecycleEvent::StartBegun);
        });
        self.make_directory(record).map_err(|error| blame::disk("prepare its directory", &error))?;
        let image_digest = source.image.digest;
        // The kernel takes its time for links and mounts, and both can be waited for at once.
        let attaching = self.attach(record).await?;
        let attachment = attaching.attachment().clone();
        let (attached, bundle) = tokio::join!(attaching.finish(), self.bundle(record, &source, attachment));
        let (attachment, (bundle, run_by)) = (attached.map_err(|error| blame::attach(&error))?, bundle?);
        let stop_signal = bundle.stop_signal;
        let surroundings = Surroundings { attachment, image_digest, stop_signal, run_by };
        outcome::write_surroundings(&self.paths, &surroundings)
            .map_err(|error| blame::disk("write its record", &error))?;
        let sandbox = self.sandbox(record, &bundle).await?;
        self.update(|observed| {
            observed.advance(LifecycleEvent::Started);
            observed.started_at = Some(sandbox.started_at());
            observed.sandbox = Some(sandbox);
            (observed.exit, observed.finished_at, observed.failure) = (None, None, None);
            note(observed, surroundings);
        });
        Ok(())
    }

    fn make_directory(&self, record: &WorkloadRecord) -> std::io::Result<()> {
        fs::create_dir_all(self.paths.directory())?;
        outcome::write_json(&self.paths.spec(), &outcome::recorded(&record.spec))?;
        outcome::write_attempt(&self.paths, record.attempt)?;
        // What an earlier run or a failed start left would be taken for this run's.
        outcome::forget(&[self.paths.exit(), self.paths.exit_reserved()]);
        let runs = self.runs(record);
        if runs.pause().is_some() { self.remember(runs.begun(clock::now())) } else { Ok(()) }
    }

    #[tracing::instrument(name = "network", skip_all, fields(workload = %self.id))]
    async fn attach(&self, record: &WorkloadRecord) -> Result<Attaching<'_>, Failure> {
        let spec = &record.spec;
        let request = AttachmentRequest {
            ports: spec.ports.clone(),
            tenant: spec.tenant.clone(),
            allow: spec.allow.clone(),
            is_machine: spec.isolation == Isolation::MicroVm,
            bytes_per_s: spec.io.network_bytes_per_s,
        };
        let attaching = self.node.network.begin_attach(self.id, &request).await;
        let attaching = attaching.map_err(|error| blame::attach(&error))?;
        let hostname = bundle::hostname(self.id, &record.spec);
        let written = write_hosts_files(self.paths.directory(), &hostname, attaching.attachment());
        written.map_err(|error| blame::hosts(&error))?;
        Ok(attaching)
    }

    #[tracing::instrument(name = "bundle", skip_all, fields(workload = %self.id))]
    async fn bundle(
        &self,
        record: &WorkloadRecord,
        source: &Source,
        attachment: Attachment,
    ) -> Result<(Bundle, Option<RunBy>), Failure> {
        match record.spec.isolation {
            Isolation::Container => Ok((self.container(record, &source.image, attachment).await?, None)),
            Isolation::MicroVm => {
                let (platform, choice) = self.platform(record).await?;
                let bundle = self.machine(record, source, attachment, platform).await?;
                Ok((bundle, Some(RunBy::from(&choice))))
            }
        }
    }

    /// What runs its machine, once the node has found out.
    async fn platform(&self, record: &WorkloadRecord) -> Result<(Platform, Choice), Failure> {
        let machines = &self.node.machines;
        let is_known = machines.is_known();
        if !is_known {
            tracing::info!(workload = %self.id, "waiting until the node knows what runs microVMs");
            self.update(|observed| observed.awaited = Some("the node knows what runs microVMs"));
        }
        let chosen = machines.choose(record.spec.vmm).await;
        if !is_known {
            self.update(|observed| observed.awaited = None);
        }
        chosen.map_err(|error| blame::no_machines(&error))
    }

    /// What a microVM boots from.
    async fn machine(
        &self,
        record: &WorkloadRecord,
        source: &Source,
        attachment: Attachment,
        platform: Platform,
    ) -> Result<Bundle, Failure> {
        let (node, id) = (Arc::clone(&self.node), self.id);
        let (spec, image, lent) = (record.spec.clone(), source.image.clone(), source.lent.clone());
        let directory = self.paths.directory().to_owned();
        let prepared = tokio::task::spawn_blocking(move || {
            let request = MachineRequest {
                id,
                spec: &spec,
                image: &image.config,
                image_digest: &image.digest,
                layers: &image.layers,
                directory: &directory,
                machine_directory: &node.sandboxes.machine_directory(id),
                attachment: &attachment,
                link_name: &node.network.link_name(id),
                cgroup_path: &node.cgroups.path_of(id),
                volumes: &node.volumes,
                reserved: &[node.directory.data().to_owned(), node.runtime_directory.clone()],
                resume: lent.as_ref(),
            };
            machine::bundle::prepare(&request, &platform)
        });
        prepared.await.map_err(|error| blame::defect(&error))?.map_err(|error| blame::machine(&error))
    }

    /// What a container is made from.
    async fn container(
        &self,
        record: &WorkloadRecord,
        image: &Image,
        attachment: Attachment,
    ) -> Result<Bundle, Failure> {
        let node = Arc::clone(&self.node);
        let (id, spec, image) = (self.id, record.spec.clone(), image.clone());
        let directory = self.paths.directory().to_owned();
        let prepared = tokio::task::spawn_blocking(move || {
            let cgroup_path = node.cgroups.path_of(id);
            let resources = node.cgroups.resources(&spec);
            let first = Mapping::first_of(attachment.address);
            let mapping = Mapping { first, engine: node.sandboxes.engine(Engine::Container) };
            bundle::prepare(&BundleRequest {
                id,
                spec: &spec,
                image: &image.config,
                layers: &image.layers,
                directory: &directory,
                memory_directory: &node.sandboxes.bundle_directory(),
                volumes: &node.volumes,
                reserved: &[node.directory.data().to_owned(), node.runtime_directory.clone()],
                mapping: spec.user_namespace.then_some(mapping),
                netns: Some(&attachment.netns),
                cgroup_path: &cgroup_path,
                resources,
            })
        });
        prepared.await.map_err(|error| blame::defect(&error))?.map_err(|error| blame::bundle(&error))
    }

    #[tracing::instrument(name = "sandbox", skip_all, fields(workload = %self.id))]
    async fn sandbox(&self, record: &WorkloadRecord, bundle: &Bundle) -> Result<Sandbox, Failure> {
        let request = LaunchRequest {
            id: self.id,
            attempt: record.attempt,
            directory: bundle.directory.clone(),
            engine: match record.spec.isolation {
                Isolation::Container => Engine::Container,
                Isolation::MicroVm => Engine::Machine,
            },
            tty: record.spec.tty,
            stdin_open: record.spec.stdin_open,
            oom_events: Some(match record.spec.isolation {
                Isolation::Container => self.node.cgroups.oom_events(self.id),
                // What the guest's kernel has killed, which the host's can't know.
                Isolation::MicroVm => self.paths.directory().join("oom"),
            }),
            start_time_max: match record.spec.isolation {
                Isolation::Container => START_TIME_MAX,
                Isolation::MicroVm => self.node.machines.boot_time_max() + START_TIME_SPARE,
            },
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
