//! The images of this node: pulled or imported, verified, unpacked into overlayfs lower directories.
//!
//! ```text
//!   images/
//!     references.json            reference -> manifest digest, replaced atomically: what is in it is whole
//!     blobs/sha256/<hex>         manifests, configurations and compressed layers as they came
//!     layers/<diff_id hex>/      unpacked layers, shared by all images that have them
//!     verified/<hex>             which keys signed the image with that manifest
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
//! `unpack` with `archive` and `unpack::tree`, `references`, `prune` and `collect`; `registry` with `credentials`,
//! and `verify`, on who is asked and believed.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use hypercore_model::{Digest, ImageReference, Timestamp};
use oci_spec::image::ImageConfiguration;

mod blocking;
mod collect;
mod content;
mod credentials;
mod download;
mod endpoint;
mod error;
mod files;
mod import;
mod ingest;
mod layout;
mod login;
mod progress;
mod prune;
mod pull;
mod references;
mod registry;
mod settings;
pub(crate) mod unpack;
mod verify;

pub use content::ContentError;
pub use credentials::{
    Credential, CredentialError, Credentials, DockerConfigError, HelperError, Logins, LoginsError, Secret,
    docker_config_path,
};
pub use error::{ImportError, LoginError, OpenError, PullError, RemoveError, TransferError};
pub use progress::{PullProgress, PullStep};
pub use prune::{DiskMarks, ImageLease, InUse, PruneScope, Pruned};
pub use pull::Pulled;
pub use settings::RegistrySettings;
pub use unpack::UnpackError;
pub use verify::{KeyError, SignatureError, SignatureForm, Verified, VerifyKey};

use blocking::blocking;
use collect::Pins;
use ingest::Ingest;
use layout::Layout;
use prune::Leases;
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
    leases: Leases,
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
        let (leases, clients) = (Leases::default(), Clients::default());
        let inner = Inner { layout, references, pins, leases, ingest, clients };
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

    /// Gives complete content a name.
    async fn put_name(&self, reference: &ImageReference, digest: Digest) -> Result<Image, TransferError> {
        let (inner, reference) = (Arc::clone(&self.inner), reference.clone());
        let now = Timestamp::from_system_time(SystemTime::now());
        blocking(move || inner.references.put(&reference, digest, now)).await
    }
}
