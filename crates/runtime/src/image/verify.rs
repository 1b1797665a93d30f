//! Who vouches for an image: signatures as cosign makes them with a key pair, found where cosign puts them.
//!
//! ```text
//!   tag form        sha256-<hex>.sig            a manifest whose layers are signed payloads
//!   referrer form   referrers of the digest     manifests of the same form, or sigstore bundles
//! ```
//!
//! An image is named by a chain of digests: that of the index that was asked for, when there is one, and that of the
//! manifest for this machine, which the index names by digest. A signature of either vouches for what will run.
//! Signatures are found at whatever registry answers; they prove themselves. It refuses certificates and transparency
//! logs: what counts is the key that the operator gave.

use std::collections::BTreeMap;

use hypercore_model::Digest;
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};

use super::{TransferError, content::json, registry::Registry};

mod bundle;
mod key;
mod payload;
mod store;

pub use key::{KeyError, VerifyKey};

/// Artifact type of a manifest that holds signatures of cosign's older form.
const SIGNATURE_ARTIFACT: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";
/// Media type of what is signed in that form.
const PAYLOAD_MEDIA_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// Beginning of the media types of sigstore bundles; a version follows.
const BUNDLE_MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle";
/// Annotation of a payload with its signature in base64.
const SIGNATURE_ANNOTATION: &str = "dev.cosignproject.cosign/signature";
/// Most signatures that are looked at for one image.
const SIGNATURES_COUNT_MAX: usize = 100;
/// Largest payload or bundle, in bytes.
const PAYLOAD_BYTES_MAX: u64 = 1024 * 1024;

/// Where a signature was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureForm {
    /// Under the tag `sha256-<hex>.sig`.
    Tag,
    /// In a manifest that refers to the image.
    Referrer,
    /// In a sigstore bundle that refers to the image.
    Bundle,
}

/// A signature that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The manifest that runs on this machine.
    pub digest: Digest,
    /// What was signed: that manifest, or the index that names it.
    pub signed: Digest,
    /// [`VerifyKey::id`] of the key that signed.
    pub key: String,
    /// Where the signature was found.
    pub form: SignatureForm,
    /// What the signer added to it (`cosign sign -a KEY=VALUE`), as far as it is text.
    pub annotations: BTreeMap<String, String>,
}

/// Why an image is not verified.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Nobody signed it.
    #[error("it has no signature")]
    Unsigned,
    /// Somebody did, but none of the keys, or for other content.
    #[error("none of its {found} signatures is of a trusted key and for this content")]
    Untrusted {
        /// How many were looked at.
        found: usize,
    },
}

/// Looks for a signature that one of the keys made for one of the digests; the last of them is what runs.
///
/// # Errors
/// [`TransferError::NotVerified`] when there is none, and whatever else the registry answers.
pub(super) async fn verify(
    registry: &Registry,
    chain: &[Digest],
    keys: &[VerifyKey],
) -> Result<Verified, TransferError> {
    let mut found = 0;
    for signed in chain.iter().rev() {
        let mut search = Search { registry, keys, signed: *signed, found: 0 };
        let hit = match search.in_tag().await? {
            Some(hit) => Some(hit),
            None => search.in_referrers().await?,
        };
        if let (Some((signer, form)), Some(&digest)) = (hit, chain.last()) {
            let Signer { key, annotations } = signer;
            return Ok(Verified { digest, signed: *signed, key, form, annotations });
        }
        found += search.found;
    }
    let error = if found == 0 { SignatureError::Unsigned } else { SignatureError::Untrusted { found } };
    Err(TransferError::NotVerified(error))
}

/// The signatures of one digest.
struct Search<'a> {
    registry: &'a Registry,
    keys: &'a [VerifyKey],
    signed: Digest,
    found: usize,
}

/// Who made a signature that holds.
#[derive(Debug, PartialEq, Eq)]
struct Signer {
    key: String,
    annotations: BTreeMap<String, String>,
}

/// Whose signature holds, and where it was found.
type Hit = Option<(Signer, SignatureForm)>;

impl Search<'_> {
    async fn in_tag(&mut self) -> Result<Hit, TransferError> {
        let tag = format!("sha256-{}.sig", self.signed.hex());
        let Some((document, _)) = absent_as_none(self.registry.manifest(&tag).await)? else {
            return Ok(None);
        };
        self.in_manifest(&document, SignatureForm::Tag).await
    }

    async fn in_referrers(&mut self) -> Result<Hit, TransferError> {
        let Some(index) = absent_as_none(self.registry.referrers(&self.signed).await)? else {
            return Ok(None);
        };
        let index: ImageIndex = json("its list of referrers", &index).map_err(TransferError::Malformed)?;
        for entry in index.manifests().iter().filter(|entry| is_signature(entry)) {
            if self.found >= SIGNATURES_COUNT_MAX {
                break;
            }
            let digest = entry.digest().as_ref().to_owned();
            let Some((document, actual)) = absent_as_none(self.registry.manifest(&digest).await)? else {
                continue;
            };
            if actual.to_string() != digest {
                continue;
            }
            if let Some(hit) = self.in_manifest(&document, SignatureForm::Referrer).await? {
                return Ok(Some(hit));
            }
        }
        Ok(None)
    }

    /// Tries what a manifest holds. One that is no image manifest has no signatures.
    async fn in_manifest(&mut self, document: &[u8], form: SignatureForm) -> Result<Hit, TransferError> {
        let Ok(manifest) = json::<ImageManifest>("a signature", document) else { return Ok(None) };
        for layer in manifest.layers() {
            let media_type = layer.media_type().as_ref();
            let is_bundle = media_type.starts_with(BUNDLE_MEDIA_TYPE);
            let is_known = is_bundle || media_type == PAYLOAD_MEDIA_TYPE;
            let Some(digest) = layer.digest().as_ref().parse().ok().filter(|_: &Digest| is_known) else {
                continue;
            };
            if self.found >= SIGNATURES_COUNT_MAX || layer.size() > PAYLOAD_BYTES_MAX {
                break;
            }
            self.found += 1;
            let content = self.registry.small_blob("a signature", &digest).await;
            let Some(content) = absent_as_none(content)? else { continue };
            let signer = if is_bundle {
                bundle::signer(&content, &self.signed, self.keys)
            } else {
                let annotations = layer.annotations().as_ref();
                let signature = annotations.and_then(|all| all.get(SIGNATURE_ANNOTATION));
                signature.and_then(|signature| payload::signer(&content, signature, &self.signed, self.keys))
            };
            if let Some(signer) = signer {
                return Ok(Some((signer, if is_bundle { SignatureForm::Bundle } else { form })));
            }
        }
        Ok(None)
    }
}

/// Whether an entry of a list of referrers may hold signatures: such lists also have SBOMs and attestations. Some
/// registries leave the type out.
fn is_signature(entry: &Descriptor) -> bool {
    entry.artifact_type().as_ref().is_none_or(|kind| {
        let kind = kind.as_ref();
        kind == SIGNATURE_ARTIFACT || kind.starts_with(BUNDLE_MEDIA_TYPE)
    })
}

fn absent_as_none<T>(found: Result<T, TransferError>) -> Result<Option<T>, TransferError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(TransferError::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}
