//! Pulls an image: asks its mirrors and its registry in turn what the name means, then brings that in. Where signatures
//! are demanded, nothing of an image comes before one was found.

use bytes::Bytes;
use hypercore_model::{Digest, ImageReference};

use super::{
    Image, ImageStore, PullError, RegistrySettings, TransferError,
    content::{ContentError, Document, Manifest, choose_platform},
    endpoint::Endpoint,
    ingest::Listener,
    registry::Registry,
    verify::verify,
};

/// Indexes that may lead to one another before a manifest comes.
const INDEX_DEPTH_MAX: usize = 3;

/// A pulled image, and who had it.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// The image.
    pub image: Image,
    /// The image's own registry, or the mirror that it came from.
    pub source: String,
}

impl ImageStore {
    /// Brings an image from its registry (or a mirror) into the store, or only its name when the content is here.
    /// Always asks what the name means now; ask [`Self::get`] first when that is not wanted.
    ///
    /// # Errors
    /// [`PullError`], which names image and registry and tells all causes apart.
    pub async fn pull(
        &self,
        reference: &ImageReference,
        settings: &RegistrySettings,
        progress: &(dyn Fn(super::PullProgress) + Send + Sync),
    ) -> Result<Pulled, PullError> {
        let failed = |endpoint: Endpoint, cause| {
            Err(PullError { image: Box::new(reference.clone()), registry: endpoint.name, cause })
        };
        for mirror in Endpoint::mirrors(reference, settings) {
            match self.pull_from(&mirror, reference, settings, progress).await {
                Ok(image) => {
                    tracing::info!(image = %reference, mirror = mirror.name, "pulled from a mirror");
                    return Ok(Pulled { image, source: mirror.name });
                }
                Err(cause) if cause.is_local() => return failed(mirror, cause),
                Err(cause) => {
                    let error: &dyn std::error::Error = &cause;
                    tracing::warn!(image = %reference, mirror = mirror.name, error, "a mirror can't help");
                }
            }
        }
        let own = Endpoint::own(reference, settings);
        match self.pull_from(&own, reference, settings, progress).await {
            Ok(image) => Ok(Pulled { image, source: own.name }),
            Err(cause) => failed(own, cause),
        }
    }

    async fn pull_from(
        &self,
        endpoint: &Endpoint,
        reference: &ImageReference,
        settings: &RegistrySettings,
        listener: Listener<'_>,
    ) -> Result<Image, TransferError> {
        let registry =
            Registry::new(&self.inner.clients, endpoint, reference.repository(), &settings.credentials)?;
        let Resolved { digest, document, manifest, chain } = resolve(&registry, reference).await?;
        let keys = &settings.verify_keys;
        let verified = if keys.is_empty() { None } else { Some(verify(&registry, &chain, keys).await?) };
        let _pinned = self.inner.ingest.run(&registry, digest, &document, &manifest, listener).await?;
        if let Some(verified) = verified {
            self.remember_verified(&verified).await?;
        }
        self.put_name(reference, digest).await
    }
}

/// What a name led to.
pub(super) struct Resolved {
    /// The digest of the manifest.
    pub(super) digest: Digest,
    /// Its bytes.
    pub(super) document: Bytes,
    pub(super) manifest: Manifest,
    /// Digests from what the name stands for to the manifest, each named by the one before.
    pub(super) chain: Vec<Digest>,
}

/// Finds the manifest for this machine behind a name. Whatever a digest led to was compared with it.
pub(super) async fn resolve(registry: &Registry, image: &ImageReference) -> Result<Resolved, TransferError> {
    let (mut wanted, mut chain) = (image.digest(), Vec::new());
    for _ in 0..INDEX_DEPTH_MAX {
        let (document, digest) = match (wanted, image.tag()) {
            (Some(digest), _) => registry.manifest(&digest.to_string()).await?,
            (None, tag) => registry.manifest(tag.unwrap_or("latest")).await?,
        };
        if let Some(expected) = wanted.filter(|&expected| expected != digest) {
            return Err(TransferError::DigestMismatch { expected, actual: digest });
        }
        chain.push(digest);
        match Document::parse(&document).map_err(TransferError::Malformed)? {
            Document::Manifest(manifest) => return Ok(Resolved { digest, document, manifest, chain }),
            Document::Index(entries) => wanted = Some(choose_platform(entries.iter())?),
        }
    }
    Err(TransferError::Malformed(ContentError::TooDeep))
}
