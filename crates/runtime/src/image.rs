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
//! Reading order: `ImageStore` here, then `pull` and `import` (two ways in), `ingest` (what they share), `blobs`,
//! `unpack` with `archive` and `tree`, `references`, `collect`.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use hypercore_model::{Digest, ImageReference, Timestamp};
use oci_spec::image::ImageConfiguration;

mod content;
mod error;
mod progress;
mod settings;
mod unpack;

pub use content::{ContentError, DOCUMENT_BYTES_MAX, LAYERS_COUNT_MAX};
pub use error::{ImportError, OpenError, PullError, RemoveError, TransferError};
pub use progress::{PullProgress, PullStep};
pub use settings::RegistrySettings;
pub use unpack::UnpackError;

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
    inner: Arc<()>,
}

impl ImageStore {
    /// Opens the store in `images_dir`, makes it when there is none, and sweeps what a crash left unfinished.
    /// Blocks on the disk.
    ///
    /// # Errors
    /// [`OpenError`] when its directories or its list of references can't be read or made.
    pub fn open(images_dir: &Path) -> Result<Self, OpenError> {
        unimplemented!()
    }

    /// Brings an image from its registry (or a mirror) into the store, or only its name when the content is here.
    /// Always asks what the tag means now; ask [`Self::get`] first when that is not wanted.
    ///
    /// # Errors
    /// [`PullError`], which names image and registry and tells all causes apart.
    pub async fn pull(
        &self,
        reference: &ImageReference,
        settings: &RegistrySettings,
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<Image, PullError> {
        unimplemented!()
    }

    /// Brings all images of an OCI layout directory or oci-archive into the store, under the names in their
    /// `org.opencontainers.image.ref.name` annotations, or a single image under `rename`.
    ///
    /// # Errors
    /// [`ImportError`], which names the path.
    pub async fn import(
        &self,
        path: &Path,
        rename: Option<&ImageReference>,
    ) -> Result<Vec<Image>, ImportError> {
        unimplemented!()
    }

    /// The image of that name. Answers from memory.
    #[must_use]
    pub fn get(&self, reference: &ImageReference) -> Option<Image> {
        unimplemented!()
    }

    /// Every image, ordered by name. Answers from memory.
    #[must_use]
    pub fn list(&self) -> Vec<Image> {
        unimplemented!()
    }

    /// Forgets a name, and deletes what no other name needs; content of `in_use` (manifest digests of existing
    /// workloads) and of running pulls stays. Returns the freed bytes of disk.
    ///
    /// # Errors
    /// [`RemoveError::NotFound`] for an unknown name, [`RemoveError::Store`] when the disk fails.
    pub async fn remove(
        &self,
        reference: &ImageReference,
        in_use: &BTreeSet<Digest>,
    ) -> Result<u64, RemoveError> {
        unimplemented!()
    }

    /// Deletes all content that no name, no manifest of `in_use` and no running pull needs. Returns the freed bytes.
    ///
    /// # Errors
    /// [`RemoveError::Store`] when the disk fails.
    pub async fn prune(&self, in_use: &BTreeSet<Digest>) -> Result<u64, RemoveError> {
        unimplemented!()
    }
}
