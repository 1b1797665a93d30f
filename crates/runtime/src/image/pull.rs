//! Pulls an image: asks its mirrors and its registry in turn what the name means, then brings that in.

use bytes::Bytes;
use hypercore_model::{Digest, ImageReference};

use super::{
    Image, ImageStore, PullError, RegistrySettings, TransferError,
    content::{ContentError, Document, Manifest, choose_platform},
    endpoint::Endpoint,
    ingest::Listener,
    registry::Registry,
};

/// Indexes that may lead to one another before a manifest comes.
const INDEX_DEPTH_MAX: usize = 3;

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
    ) -> Result<Image, PullError> {
        let failed = |endpoint: Endpoint, cause| {
            Err(PullError { image: Box::new(reference.clone()), registry: endpoint.name, cause })
        };
        for mirror in Endpoint::mirrors(reference, settings) {
            match self.pull_from(&mirror, reference, progress).await {
                Ok(image) => return Ok(image),
                Err(cause) if cause.is_local() => return failed(mirror, cause),
                Err(cause) => {
                    let error: &dyn std::error::Error = &cause;
                    tracing::warn!(image = %reference, mirror = mirror.name, error, "a mirror can't help");
                }
            }
        }
        let own = Endpoint::own(reference, settings);
        match self.pull_from(&own, reference, progress).await {
            Ok(image) => Ok(image),
            Err(cause) => failed(own, cause),
        }
    }

    async fn pull_from(
        &self,
        endpoint: &Endpoint,
        reference: &ImageReference,
        listener: Listener<'_>,
    ) -> Result<Image, TransferError> {
        let registry = Registry::new(&self.inner.clients, endpoint, reference)?;
        let (digest, document, manifest) = resolve(&registry, reference).await?;
        let _pinned = self.inner.ingest.run(&registry, digest, &document, &manifest, listener).await?;
        self.put_name(reference, digest).await
    }
}

/// Finds the manifest for this machine behind a name. Whatever a digest led to was compared with it.
async fn resolve(
    registry: &Registry,
    image: &ImageReference,
) -> Result<(Digest, Bytes, Manifest), TransferError> {
    let mut wanted = image.digest();
    for _ in 0..INDEX_DEPTH_MAX {
        let (document, actual) = match (wanted, image.tag()) {
            (Some(digest), _) => registry.manifest(&digest.to_string()).await?,
            (None, tag) => registry.manifest(tag.unwrap_or("latest")).await?,
        };
        if let Some(expected) = wanted.filter(|&expected| expected != actual) {
            return Err(TransferError::DigestMismatch { expected, actual });
        }
        match Document::parse(&document).map_err(TransferError::Malformed)? {
            Document::Manifest(manifest) => return Ok((actual, document, manifest)),
            Document::Index(entries) => wanted = Some(choose_platform(entries.iter())?),
        }
    }
    Err(TransferError::Malformed(ContentError::TooDeep))
}
