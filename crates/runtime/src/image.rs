//! The images of this node: pulled or imported, verified, unpacked into overlayfs lower directories.
//!
//! ```text
//!   images/
//!     references.json            reference -> manifest digest, replaced atomically: what is in it is whole
//!     blobs/sha256/<hex>         manifests, configurations and compressed layers as they came
//!     layers/<diff_id hex>/      unpacked layers, shared by all images that have them
//!     temporary/                 whatever isn't finished; swept by open()
//! ```
//!
//! Invariants:
//! - A file or directory outside `temporary/` is complete, and its name is the digest of its content.
//! - A reference is written after everything it needs, and removed before anything it needs.
//! - No byte of an image is trusted before its digest was checked; no path of a layer leaves the layer's directory.
//!
//! It decides nothing: when to pull and what is in use are the caller's knowledge. One process opens a store at a time.
//!
//! Reading order: `ImageStore` here, then `pull` and `import` (two ways in), `ingest` (what they share), `download`,
//! `unpack` with `archive` and `unpack::tree`, `references`, `collect`.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use hypercore_model::{Digest, ImageReference, Timestamp};
use oci_spec::image::ImageConfiguration;

mod archive;
mod blocking;
mod collect;
mod content;
mod download;
mod endpoint;
mod error;
mod files;
mod import;
mod ingest;
mod layout;
mod progress;
mod pull;
mod references;
mod registry;
mod settings;
mod shown;
mod unpack;

pub use archive::ArchiveError;
pub use content::ContentError;
pub use error::{ImportError, OpenError, PullError, RemoveError, TransferError};
pub use progress::{PullProgress, PullStep};
pub use settings::RegistrySettings;
pub use unpack::{PathError, UnpackError};

use blocking::blocking;
use collect::{Pins, collect};
use ingest::Ingest;
use layout::Layout;
use references::References;
use registry::Clients;

/// One image of the store, ready to be run.
#[derive(Debug, Clone)]
pub struct Image {
    /// The name it was pulled or imported under.
    pub reference: ImageReference,
    /// Digest of its manifest (of this platform, not of an index).
    pub digest: Digest,
    /// Size of manifest, configuration and compressed layers, in bytes: what a pull transfers.
    pub size_bytes: u64,
    /// When the node got it.
    pub created_at: Timestamp,
    /// Entrypoint, environment, user and the rest of the OCI image configuration.
    pub config: Arc<ImageConfiguration>,
    /// Unpacked layers for overlayfs `lowerdir`, lowest first, each at most once.
    pub layers: Vec<PathBuf>,
}

/// The images of this node. Clones share one store.
#[derive(Debug, Clone)]
pub struct ImageStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    layout: Layout,
    references: References,
    pins: Pins,
    ingest: Ingest,
    clients: Clients,
}

impl ImageStore {
    /// Opens the store in `images_dir`, makes it when there is none, and sweeps what a crash left unfinished.
    /// Blocks on the disk.
    ///
    /// # Errors
    /// [`OpenError`] when its directories or its list of references can't be read or made.
    pub fn open(images_dir: &Path) -> Result<Self, OpenError> {
        let layout =
            Layout::open(images_dir).map_err(|(path, source)| OpenError::Directory { path, source })?;
        let references = References::open(&layout)?;
        let pins = Pins::default();
        let ingest = Ingest::new(layout.clone(), pins.clone());
        let inner = Inner { layout, references, pins, ingest, clients: Clients::default() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The image of that name. Answers from memory.
    #[must_use]
    pub fn get(&self, reference: &ImageReference) -> Option<Image> {
        self.inner.references.get(reference)
    }

    /// Every image, ordered by name. Answers from memory.
    #[must_use]
    pub fn list(&self) -> Vec<Image> {
        self.inner.references.list()
    }

    /// Forgets a name, and deletes what nothing else needs; content of `in_use` (manifest digests of workloads that
    /// exist) and of running pulls stays. Returns the freed bytes of disk.
    ///
    /// # Errors
    /// [`RemoveError::NotFound`] for an unknown name, [`RemoveError::Store`] when the disk fails.
    pub async fn remove(
        &self,
        reference: &ImageReference,
        in_use: &BTreeSet<Digest>,
    ) -> Result<u64, RemoveError> {
        let (inner, name) = (Arc::clone(&self.inner), reference.clone());
        let removed = blocking(move || {
            let step = "write its list of references";
            inner.references.remove(&name).map_err(|source| RemoveError::Store { step, source })
        });
        if removed.await? {
            self.prune(in_use).await
        } else {
            Err(RemoveError::NotFound { image: Box::new(reference.clone()) })
        }
    }

    /// Deletes all content that no name, no manifest of `in_use` and no running pull needs. Returns the freed bytes.
    ///
    /// # Errors
    /// [`RemoveError::Store`] when the disk fails.
    pub async fn prune(&self, in_use: &BTreeSet<Digest>) -> Result<u64, RemoveError> {
        let (inner, in_use) = (Arc::clone(&self.inner), in_use.clone());
        let needed = move |references: &References| &references.manifests() | &in_use;
        blocking(move || collect(&inner.layout, &inner.pins, || needed(&inner.references))).await
    }

    /// Gives complete content a name.
    async fn put_name(&self, reference: &ImageReference, digest: Digest) -> Result<Image, TransferError> {
        let (inner, reference) = (Arc::clone(&self.inner), reference.clone());
        let now = Timestamp::from_system_time(SystemTime::now());
        blocking(move || inner.references.put(&reference, digest, now)).await
    }
}
