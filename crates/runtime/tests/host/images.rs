//! Images against a real registry, a hostile one, and layouts on disk: what comes in is whole, and nothing else does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod auth;
mod forms;
mod full_disk;
mod hostile;
mod import;
mod overlay;
mod prune;
mod pull;
mod remove;
mod server;
mod verify;

use std::{path::Path, sync::Mutex, time::Duration};

use hypercore_fixtures::{ImageBuilder, OciImage, wait_until};
use hypercore_model::ImageReference;
use hypercore_runtime::image::{
    Image, ImageStore, PullError, PullProgress, PullStep, RegistrySettings, TransferError,
};
use tempfile::TempDir;

/// A store in a directory of its own.
struct Store {
    directory: TempDir,
    images: ImageStore,
}

impl Store {
    fn new() -> Self {
        // Another test of this process may have been first.
        let _already_set = rustls::crypto::ring::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let images = ImageStore::open(directory.path()).unwrap();
        Self { directory, images }
    }

    /// The store as the next start of the node finds it.
    fn reopened(&self) -> ImageStore {
        ImageStore::open(self.directory.path()).unwrap()
    }

    async fn pull(&self, reference: &str) -> Result<Image, PullError> {
        let pulled = self.images.pull(&parsed(reference), &RegistrySettings::default(), &|_| {}).await;
        pulled.map(|pulled| pulled.image)
    }

    /// Pulls and also returns how each layer's pull ended.
    async fn pull_watched(&self, reference: &str) -> (Image, Vec<PullProgress>) {
        let steps = Mutex::new(Vec::new());
        let watch = |step| steps.lock().unwrap().push(step);
        let pulled =
            self.images.pull(&parsed(reference), &RegistrySettings::default(), &watch).await.unwrap();
        (pulled.image, steps.into_inner().unwrap())
    }

    /// Names of everything in a directory of the store, sorted.
    fn names(&self, directory: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.directory.path().join(directory)).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// After a failure nothing is visible, and nothing unfinished is left once the other layers' threads have noticed.
    fn assert_nothing_new(&self) {
        assert!(self.images.list().is_empty());
        let swept = wait_until(Duration::from_secs(20), || self.names("temporary").is_empty().then_some(()));
        assert!(swept.is_some(), "left: {:?}", self.names("temporary"));
        assert!(self.reopened().list().is_empty());
    }
}

fn parsed(reference: &str) -> ImageReference {
    reference.parse().unwrap()
}

/// An image with two small layers, the upper of which removes something.
fn two_layers() -> OciImage {
    ImageBuilder::empty()
        .file("etc/motd", "hello")
        .file("etc/old", "old")
        .symlink("bin/sh", "/bin/busybox")
        .layer()
        .file("app/run", "#!/bin/sh\n")
        .whiteout("etc/old")
        .entrypoint(["/app/run"])
        .env("KEY", "value")
        .build()
}

fn last_steps(steps: &[PullProgress]) -> Vec<PullStep> {
    let mut last: Vec<PullProgress> = Vec::new();
    for step in steps {
        match last.iter_mut().find(|known| known.layer == step.layer) {
            Some(known) => *known = *step,
            None => last.push(*step),
        }
    }
    last.into_iter().map(|step| step.step).collect()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// What went wrong, after checking that the message names image and registry.
fn cause(error: PullError, reference: &str) -> TransferError {
    let reference = parsed(reference);
    let message = error.to_string();
    assert!(message.contains(reference.registry()) && message.contains(reference.repository()), "{message}");
    assert!(!error.hint().is_empty());
    error.cause
}
