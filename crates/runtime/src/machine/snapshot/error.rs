//! What can be wrong with a snapshot. It refuses to say so without the name of the snapshot and of the file.

use std::{
    io,
    path::{Path, PathBuf},
};

use hypercore_model::SnapshotName;

/// Why a snapshot can't be made, used or removed.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// There is one of that name.
    #[error("there is a snapshot {0} already")]
    Exists(SnapshotName),
    /// There is none of that name.
    #[error("there is no snapshot {0}")]
    NotFound(SnapshotName),
    /// Another release made it.
    #[error(
        "the snapshot {name} has the format {format}; this release of Hypercore reads {}",
        super::manifest::FORMAT
    )]
    Format {
        /// Which one.
        name: SnapshotName,
        /// What it says.
        format: u32,
    },
    /// What it says of itself can't be believed.
    #[error("the snapshot {name} can't be used: its snapshot.json {why}")]
    Manifest {
        /// Which one.
        name: SnapshotName,
        /// What is wrong.
        why: String,
    },
    /// A file of it is not what it was.
    #[error("the snapshot {name} can't be used: its file {file} {why}")]
    File {
        /// Which one.
        name: SnapshotName,
        /// Which file.
        file: String,
        /// What is wrong.
        #[source]
        why: FileFault,
    },
    /// It is for another engine.
    #[error("the snapshot {name} was made by {of}; this node runs {here}")]
    Engine {
        /// Which one.
        name: SnapshotName,
        /// Engine, version and accelerator that made it.
        of: String,
        /// Those of the node.
        here: String,
    },
    /// Something that the machine booted from was replaced on the node since.
    #[error("{} is not what the machine was started with any more", .0.display())]
    Replaced(PathBuf),
    /// The engine did not write something.
    #[error("the machine's engine wrote no {0}")]
    Unwritten(&'static str),
    /// The disk refused something.
    #[error("the node could not {step} {}", path.display())]
    Disk {
        /// What it was doing.
        step: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum FileFault {
    /// It isn't there.
    #[error("is missing")]
    Missing,
    /// A link, a device, a directory; or no directory where one must be.
    #[error("is no regular file, or no directory")]
    Kind,
    /// Others can write to it.
    #[error("belongs to another user, or can be written by others")]
    Foreign,
    /// It was cut, or grew.
    #[error("has {is} bytes instead of {was}")]
    Length {
        /// How long it is.
        is: u64,
        /// How long it was.
        was: u64,
    },
    /// Its bytes are others.
    #[error("has changed since it was made")]
    Changed,
    /// The disk doesn't give it.
    #[error("can't be read: {0}")]
    Unreadable(#[source] io::Error),
}

impl SnapshotError {
    pub(super) fn file(name: &SnapshotName, file: &str, why: FileFault) -> Self {
        Self::File { name: name.clone(), file: file.to_owned(), why }
    }

    /// Whether it failed for lack of room.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        matches!(self, Self::Disk { source, .. } if full.contains(&source.kind()))
    }
}

/// Puts step and path beside what the system said.
pub(super) fn disk(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SnapshotError {
    let path = path.to_owned();
    move |source| SnapshotError::Disk { step, path, source }
}
