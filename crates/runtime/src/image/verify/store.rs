//! What the store has to do with signatures: asks for them, and remembers which key vouched for what it has, so that a
//! start needs no registry. What is remembered is only as good as the key: one that is no longer trusted counts nothing.

use std::fs;

use hypercore_model::{Digest, ImageReference};

use super::{SignatureError, Verified, VerifyKey, verify};
use crate::image::{
    Image, ImageStore, PullError, RegistrySettings, TransferError, blocking::blocking, endpoint::Endpoint,
    layout::Layout, pull::resolve, registry::Registry,
};

impl ImageStore {
    /// Looks for a signature of an image that one of the keys made: of the image on this node when it is here, and of
    /// what its name means at its registry otherwise.
    ///
    /// # Errors
    /// [`PullError`], with [`TransferError::NotVerified`] when no signature holds.
    pub async fn verify(
        &self,
        reference: &ImageReference,
        keys: &[VerifyKey],
        settings: &RegistrySettings,
    ) -> Result<Verified, PullError> {
        let present = self.get(reference).map(|image| image.digest);
        let mut endpoints = Endpoint::mirrors(reference, settings);
        endpoints.push(Endpoint::own(reference, settings));
        let mut failed = None;
        for endpoint in endpoints {
            match self.verify_at(&endpoint, reference, present, keys, settings).await {
                Ok(verified) => return Ok(verified),
                Err(cause) => failed = Some((endpoint, cause)),
            }
        }
        let (endpoint, cause) = failed.expect("the image's own registry was asked");
        Err(PullError { image: Box::new(reference.clone()), registry: endpoint.name, cause })
    }

    /// Makes sure that an image of this node may run: at once when no keys are configured or one of them is known to
    /// have signed it, and by asking for signatures otherwise.
    ///
    /// # Errors
    /// [`PullError`], with [`TransferError::NotVerified`] when no signature holds.
    pub async fn admit(&self, image: &Image, settings: &RegistrySettings) -> Result<(), PullError> {
        let keys = &settings.verify_keys;
        if keys.is_empty() || is_known(&self.inner.layout, &image.digest, keys) {
            return Ok(());
        }
        let verified = self.verify(&image.reference, keys, settings).await?;
        let failed = |cause| PullError {
            image: Box::new(image.reference.clone()),
            registry: image.reference.registry().to_owned(),
            cause,
        };
        if verified.digest != image.digest {
            // The name moved on meanwhile: what was verified is not what was asked about.
            return Err(failed(TransferError::NotVerified(SignatureError::Unsigned)));
        }
        self.remember_verified(&verified).await.map_err(failed)
    }

    /// Writes down who vouches for an image whose content is complete or pinned.
    pub(in crate::image) async fn remember_verified(&self, verified: &Verified) -> Result<(), TransferError> {
        let (layout, verified) = (self.inner.layout.clone(), verified.clone());
        blocking(move || {
            let path = layout.verified(&verified.digest);
            let mut keys = fs::read_to_string(&path).unwrap_or_default();
            if !keys.lines().any(|key| key == verified.key) {
                keys.push_str(&verified.key);
                keys.push('\n');
            }
            let temporary = layout.temporary();
            fs::write(temporary.path(), keys)
                .and_then(|()| temporary.place(&path))
                .map_err(TransferError::store("note who signed an image"))
        })
        .await
    }

    async fn verify_at(
        &self,
        endpoint: &Endpoint,
        reference: &ImageReference,
        present: Option<Digest>,
        keys: &[VerifyKey],
        settings: &RegistrySettings,
    ) -> Result<Verified, TransferError> {
        let registry =
            Registry::new(&self.inner.clients, endpoint, reference.repository(), &settings.credentials)?;
        let chain = match (resolve(&registry, reference).await, present) {
            (Ok(resolved), None) => resolved.chain,
            (Ok(resolved), Some(present)) if resolved.digest == present => resolved.chain,
            // The name means something else by now, or nothing: the image here still has its own digest.
            (Ok(_) | Err(TransferError::NotFound), Some(present)) => vec![present],
            (Err(error), _) => return Err(error),
        };
        verify(&registry, &chain, keys).await
    }
}

/// Whether one of these keys is known to have signed an image of the store.
fn is_known(layout: &Layout, digest: &Digest, keys: &[VerifyKey]) -> bool {
    let known = fs::read_to_string(layout.verified(digest)).unwrap_or_default();
    known.lines().any(|id| keys.iter().any(|key| key.id() == id))
}
