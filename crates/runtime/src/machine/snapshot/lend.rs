//! What a machine gets of a snapshot to go on from: files of its own, so that the snapshot may go at any time. Its disk
//! is copied sparsely, or its blocks are shared where the filesystem can; everything else gets one more name.
//! It refuses a snapshot that another engine made, and one of which a file is not what it was.

use std::{
    fs,
    path::{Path, PathBuf},
};

use hypercore_model::SnapshotName;

use super::{
    Snapshot, SnapshotStore,
    error::{SnapshotError, disk},
    file,
    manifest::Manifest,
    seal::Seal,
};
use crate::machine::disk::copy_sparse;

/// Largest file that is compared with its digest at every use, in bytes. Reading it takes some milliseconds.
const SMALL_BYTES_MAX: u64 = 16 << 20;
/// Where a workload has what it was lent.
const DIRECTORY: &str = "resume";
/// A machine's own disk, in a snapshot and in a workload's directory.
const WRITABLE: &str = "writable.ext4";

/// What one machine was lent.
#[derive(Debug, Clone)]
pub struct Lent {
    /// What the snapshot says of itself.
    pub manifest: Manifest,
    /// Where `state`, `memory`, `kernel`, `initrd` and `image.ext4` are.
    pub directory: PathBuf,
    /// The machine's own disk.
    pub writable: PathBuf,
}

impl SnapshotStore {
    /// Lends a snapshot to the machine of the workload in `directory`. What it was lent before is replaced.
    ///
    /// # Errors
    /// What is wrong with the snapshot, or the disk's.
    pub fn lend(&self, name: &SnapshotName, directory: &Path) -> Result<Lent, SnapshotError> {
        let _reading = self.together();
        let snapshot = self.checked(name)?;
        take_back(directory)?;
        let lent = Lent {
            manifest: snapshot.manifest.clone(),
            directory: directory.join(DIRECTORY),
            writable: directory.join(WRITABLE),
        };
        file::make_directory(&lent.directory)?;
        let is_lent = |file: &&String| *file != WRITABLE;
        for file in snapshot.manifest.files.keys().filter(is_lent) {
            file::link(&snapshot.directory.join(file), &lent.directory.join(file))?;
        }
        let new = directory.join("writable.new");
        let copied = copy_sparse(&snapshot.directory.join(WRITABLE), &new)
            .and_then(|()| fs::rename(&new, &lent.writable));
        copied.map_err(disk("copy", &lent.writable))?;
        Ok(lent)
    }

    /// A snapshot whose files are those that were made. Large files are read when their seal is not theirs.
    fn checked(&self, name: &SnapshotName) -> Result<Snapshot, SnapshotError> {
        let (snapshot, seal) = (self.get(name)?, Seal::read(&self.seal(name)));
        let found =
            snapshot.compare(|file, opened| opened.len > SMALL_BYTES_MAX && seal.has(file, opened))?;
        if found != seal {
            found.write(&self.seal(name))?;
        }
        Ok(snapshot)
    }
}

/// Takes away what a workload was lent: it has begun with its image again.
///
/// # Errors
/// The disk's.
pub fn take_back(directory: &Path) -> Result<(), SnapshotError> {
    file::remove_tree(&directory.join(DIRECTORY))
}
