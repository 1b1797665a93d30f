//! Why an operation on the image store failed: one enum per operation, each telling whose mistake it was.
//! Outer messages name the image and its registry or archive, the source below says what went wrong, and `hint`
//! says what to do about it.

use std::{io, path::PathBuf};

use hypercore_model::{Digest, ImageReference};
use nix::errno::Errno;

use super::{
    content::ContentError,
    credentials::{CredentialError, LoginsError},
    unpack::UnpackError,
    verify::SignatureError,
};

/// Why an image store can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// One of its directories can't be made or swept.
    #[error("image store: can't prepare {path}")]
    Directory {
        /// What could not be prepared.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The list of references can't be read.
    #[error("image store: can't read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The list of references is not what this program writes.
    #[error("image store: {path} is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where its JSON is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// The list of references was written by a newer release.
    #[error("image store: {path} has version {version}, which this release can't read")]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
}

/// A pull that failed. Nothing of it is visible in the store; complete layers are kept for the next try.
#[derive(Debug, thiserror::Error)]
#[error("image `{}` can't be pulled from registry {registry}", image.familiar())]
pub struct PullError {
    /// What was asked for.
    pub image: Box<ImageReference>,
    /// Who was asked: the image's registry, or the mirror that failed on the image's content.
    pub registry: String,
    /// What went wrong.
    #[source]
    pub cause: TransferError,
}

impl PullError {
    /// What the user can do about it, as one sentence.
    #[must_use]
    pub fn hint(&self) -> String {
        let (image, registry) = (self.image.familiar(), &self.registry);
        match &self.cause {
            TransferError::NotFound => {
                format!("check the name and tag, and that `{image}` was pushed to {registry}")
            }
            TransferError::Unreachable(source) if source.is_builder() => {
                format!("install CA certificates (package ca-certificates) to speak TLS with {registry}")
            }
            TransferError::Unreachable(_) => format!(
                "check that {registry} runs and that this machine reaches it; a registry without TLS belongs into \
                 runtime.insecure_registries"
            ),
            TransferError::Unauthorized => format!(
                "check the name, and for a private image run `hypercore image login {registry}`: registries say this \
                 about missing images as well as about private ones"
            ),
            TransferError::LoginRefused { .. } => {
                format!(
                    "log in again with `hypercore image login {registry}`, as somebody who may read `{image}`"
                )
            }
            TransferError::Credentials(_) => {
                format!("repair docker's config.json, or run `hypercore image login {registry}`")
            }
            TransferError::TokenServerPlain { .. } => {
                format!("let {registry} give out its tokens itself or over TLS")
            }
            TransferError::NotVerified(_) => format!(
                "have it signed (`cosign sign --key`) by one of the keys of runtime.verify_keys; `hypercore image \
                 verify {image} --key FILE` tries a key"
            ),
            TransferError::Refused { status: 429, .. } => {
                "the registry limits anonymous pulls: wait, or set runtime.registry_mirrors".to_owned()
            }
            TransferError::Refused { .. } | TransferError::Truncated { .. } => {
                format!("try again; if it stays so, ask who runs {registry}")
            }
            TransferError::DigestMismatch { .. } => {
                format!("{registry}, or something between, is damaged or lies: do not trust this image")
            }
            cause => cause.local_hint(),
        }
    }
}

/// Why content could not be brought into the store, from a registry or from a file.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// There is no such image or blob.
    #[error("it was not found there")]
    NotFound,
    /// No answer: no such host, refused, timed out, or TLS failed.
    #[error("there is no usable answer")]
    Unreachable(#[source] reqwest::Error),
    /// The registry wants credentials, or says so about images that don't exist.
    #[error("anonymous access is denied")]
    Unauthorized,
    /// The registry was shown a credential of ours and still says no.
    #[error("the login as `{user}` is refused")]
    LoginRefused {
        /// Who we said we are.
        user: String,
    },
    /// Docker's configuration or a credential helper failed when a credential was needed.
    #[error("the credentials for it can't be had")]
    Credentials(#[source] CredentialError),
    /// The registry sends us to a token server elsewhere that doesn't speak TLS: it would overhear the credentials.
    #[error("it wants its credentials sent to {host} without TLS")]
    TokenServerPlain {
        /// The token server.
        host: String,
    },
    /// The operator wants signed images only, and this one isn't signed by who must.
    #[error("the image is not verified")]
    NotVerified(#[source] SignatureError),
    /// Any other answer that isn't the content: rate limits, server errors.
    #[error("the answer was HTTP {status}{message}")]
    Refused {
        /// HTTP status code.
        status: u16,
        /// `: ` and the beginning of what the registry wrote, or empty.
        message: String,
    },
    /// The bytes that came are not those that were promised.
    #[error("content with digest {actual} came where {expected} was promised")]
    DigestMismatch {
        /// What the reference, index or manifest promised.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// The bytes ended before all of a blob had come.
    #[error("only {received_bytes} of the {expected_bytes} bytes of {blob} came")]
    Truncated {
        /// The blob that stayed incomplete.
        blob: Digest,
        /// Its size by the manifest.
        expected_bytes: u64,
        /// What came of it.
        received_bytes: u64,
    },
    /// The image exists, but not for this machine.
    #[error("there is nothing for {wanted}, only for {available}")]
    NoPlatform {
        /// This machine, such as `linux/amd64`.
        wanted: String,
        /// What there is instead.
        available: String,
    },
    /// Index, manifest or configuration are not what the OCI image spec allows, or larger than any honest one.
    #[error("the image is malformed")]
    Malformed(#[source] ContentError),
    /// A layer can't be unpacked, most often because it is malformed or hostile.
    #[error("layer {layer} can't be unpacked")]
    Unpack {
        /// The layer's diff_id.
        layer: Digest,
        /// What is wrong.
        #[source]
        source: UnpackError,
    },
    /// No space is left for it.
    #[error("the disk of the image store is full")]
    DiskFull(#[source] io::Error),
    /// The store can't read or write its own files.
    #[error("the image store can't {step}")]
    Store {
        /// What it was about to do.
        step: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl TransferError {
    /// Wraps an error of the store's own files, and tells a full disk apart.
    pub(super) fn store(step: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            if is_disk_full(&source) { Self::DiskFull(source) } else { Self::Store { step, source } }
        }
    }

    /// Whether it is this machine's trouble, which no other registry would mend.
    pub(super) fn is_local(&self) -> bool {
        matches!(self, Self::DiskFull(_) | Self::Store { .. })
    }

    /// Hints that don't depend on where the content came from.
    fn local_hint(&self) -> String {
        match self {
            Self::NoPlatform { wanted, .. } => format!("build the image for {wanted}"),
            Self::DiskFull(_) => {
                "free space, for example with `hypercore image prune --all`, and try again".to_owned()
            }
            Self::Store { .. } => "check the permissions and the health of the data directory".to_owned(),
            Self::NotFound | Self::DigestMismatch { .. } | Self::Truncated { .. } => {
                "copy or export the image again".to_owned()
            }
            _ => "ask who built the image".to_owned(),
        }
    }
}

/// Whether the system refused because of space or quota.
pub(super) fn is_disk_full(error: &io::Error) -> bool {
    let full = [Errno::ENOSPC, Errno::EDQUOT].map(|errno| errno as i32);
    error.raw_os_error().is_some_and(|code| full.contains(&code))
}

/// Why an import failed. Nothing of a failed import is visible in the store.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// There is nothing at that path, or it may not be read.
    #[error("{path} can't be read")]
    Unreadable {
        /// What was to be imported.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Neither an OCI layout directory nor an oci-archive or docker-archive.
    #[error("{path} is not an image: {why}")]
    NotAnImage {
        /// What was to be imported.
        path: PathBuf,
        /// What is missing or wrong.
        why: String,
    },
    /// An image in it has no usable name and none was given, or one name was given for several images.
    #[error("{path} can't be named: {why}")]
    Reference {
        /// What was to be imported.
        path: PathBuf,
        /// Which name is missing, wrong or ambiguous.
        why: String,
    },
    /// It is an image, but bringing it into the store failed.
    #[error("{path} can't be imported")]
    Transfer {
        /// What was to be imported.
        path: PathBuf,
        /// What went wrong.
        #[source]
        cause: TransferError,
    },
}

impl ImportError {
    /// What the user can do about it, as one sentence.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Unreadable { .. } => "check the path: the node reads it, on its own machine".to_owned(),
            Self::NotAnImage { .. } => {
                "give an OCI layout directory, an oci-archive or what `docker save` writes".to_owned()
            }
            Self::Reference { .. } => "give it a name with --as NAME:TAG".to_owned(),
            Self::Transfer { cause, .. } => cause.local_hint(),
        }
    }
}

/// Why an image could not be removed, or the store not be cleaned.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// The store has no such reference.
    #[error("image `{}` is not on this node", image.familiar())]
    NotFound {
        /// What was to be removed.
        image: Box<ImageReference>,
    },
    /// A workload needs it.
    #[error("image `{}` is in use by a workload", image.familiar())]
    InUse {
        /// What was to be removed.
        image: Box<ImageReference>,
    },
    /// The store can't read or write its own files.
    #[error("the image store can't {step}")]
    Store {
        /// What it was about to do.
        step: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Why a login was not kept.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// That can't be a registry.
    #[error("`{0}` is not a registry's HOST or HOST:PORT")]
    Name(String),
    /// The registry didn't accept it, or didn't answer.
    #[error("can't log in to registry {registry}")]
    Registry {
        /// Which registry.
        registry: String,
        /// What it answered.
        #[source]
        cause: TransferError,
    },
    /// It is right, but could not be kept.
    #[error(transparent)]
    Logins(#[from] LoginsError),
}
