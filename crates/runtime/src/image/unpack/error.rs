//! Why a layer can't be unpacked: most often because it is not what an honest builder makes.

use std::io;

use hypercore_copy::{archive::ArchiveError, path::PathError};
use hypercore_model::Digest;

/// Why a layer can't be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It is not a tar archive, or one that layers can't be.
    #[error("it is not a layer's tar archive")]
    Archive(#[from] ArchiveError),
    /// It unpacks to more than any honest layer.
    #[error("{0}")]
    TooLarge(String),
    /// The uncompressed content is not what the configuration promised.
    #[error("its uncompressed digest is {actual}")]
    WrongDigest {
        /// What came out.
        actual: Digest,
    },
    /// A member's name is refused.
    #[error("member `{member}` is refused")]
    Name {
        /// Its name, made fit to be shown.
        member: String,
        /// Why it is refused.
        #[source]
        source: PathError,
    },
    /// A hard link's target is refused.
    #[error("the target of hard link `{member}` is refused")]
    LinkTarget {
        /// The link.
        member: String,
        /// Why its target is refused.
        #[source]
        source: PathError,
    },
    /// A member that no honest image has.
    #[error("member `{member}` is refused: {why}")]
    Refused {
        /// The member.
        member: String,
        /// Why it is refused.
        why: &'static str,
    },
    /// The file system refused it.
    #[error("member `{member}`: can't {step}")]
    Write {
        /// The member.
        member: String,
        /// What was being done.
        step: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The layer's directory can't be opened or written to the disk.
    #[error("can't {step} the layer's directory")]
    Directory {
        /// What was being done.
        step: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl UnpackError {
    /// The system's error below, when there is one.
    pub(in crate::image) fn as_io(&self) -> Option<&io::Error> {
        match self {
            Self::Archive(ArchiveError::Read(source))
            | Self::Write { source, .. }
            | Self::Directory { source, .. } => Some(source),
            _ => None,
        }
    }
}
