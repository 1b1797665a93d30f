//! An image as one read-only filesystem: its layers, mounted over each other, copied once into an ext4 filesystem that
//! all machines of the image share. ext4, because every guest kernel has it built in and every host has its tools.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use hypercore_model::Digest;

use super::{
    ext4::{self, Ext4Error},
    once::alone,
    seal,
};
use crate::bundle::{self, BundleError, DiscardError};

/// What a filesystem needs besides its files: a fifth more, and so many bytes.
const SPARE_BYTES: u64 = 16 * 1024 * 1024;
/// The least that an entry takes, in bytes: its inode and a block.
const ENTRY_BYTES: u64 = 4096 + 512;
/// Deepest directory that is counted.
const DEPTH_MAX: usize = 512;

/// Why there is no filesystem.
#[derive(Debug, thiserror::Error)]
pub enum RootImageError {
    /// The layers can't be mounted.
    #[error("the image's layers can't be mounted")]
    Mount(#[from] BundleError),
    /// They can't be unmounted again.
    #[error(transparent)]
    Unmount(#[from] DiscardError),
    /// A file or directory of it.
    #[error("{} can't be used", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// `mkfs.ext4` failed.
    #[error(transparent)]
    Make(#[from] Ext4Error),
}

/// The filesystem of the image with this digest in `directory`, made from `layers` (bottom first) if it isn't there, or
/// isn't what it was made as. Blocks for as long as the image takes to copy; for as long as it takes to read when it is
/// first used in a run of the agent.
///
/// # Errors
/// [`RootImageError`]; nothing is left of one that could not be made.
pub fn build(digest: &Digest, layers: &[PathBuf], directory: &Path) -> Result<PathBuf, RootImageError> {
    let name = digest.to_string().replace(':', "-");
    let path = directory.join(format!("{name}.ext4"));
    if seal::is_known(&path) {
        return Ok(path);
    }
    alone(&path, || {
        if seal::holds(&path) {
            return Ok(());
        }
        if path.exists() {
            tracing::warn!(image = %path.display(), "an image's filesystem is not what it was made as; it is made again");
        }
        // Beside it, and over it by a rename: a machine that runs keeps the one it has.
        place(layers, &directory.join(format!("{name}.new")), &path)
    })?;
    Ok(path)
}

fn place(layers: &[PathBuf], scratch: &Path, path: &Path) -> Result<(), RootImageError> {
    let failed = |path: &Path, source| RootImageError::File { path: path.to_owned(), source };
    if scratch.exists() {
        // Of a maker that was killed. Still mounted, it would be another image's root.
        bundle::discard(scratch)?;
        fs::remove_dir_all(scratch).map_err(|source| failed(scratch, source))?;
    }
    fs::create_dir_all(scratch).map_err(|source| failed(scratch, source))?;
    let made = make(layers, scratch);
    let unmounted = bundle::discard(scratch);
    let kept = made.and_then(|new| {
        let sealed = seal::write(&new, path).and_then(|()| fs::rename(&new, path));
        sealed.map_err(|source| failed(path, source))
    });
    // An unmounted directory is all that is left in it.
    unmounted?;
    let removed = fs::remove_dir_all(scratch).map_err(|source| failed(scratch, source));
    kept.and(removed)
}

fn make(layers: &[PathBuf], scratch: &Path) -> Result<PathBuf, RootImageError> {
    let root = bundle::mount_rootfs(layers, scratch)?;
    let failed = |path: &Path, source| RootImageError::File { path: path.to_owned(), source };
    let bytes = measure(&root, 0).map_err(|source| failed(&root, source))?;
    let new = scratch.join("image.ext4");
    let file = File::create(&new).map_err(|source| failed(&new, source))?;
    file.set_len((bytes + bytes / 5 + SPARE_BYTES).next_multiple_of(1 << 20))
        .map_err(|source| failed(&new, source))?;
    // Nobody writes to it: no journal.
    ext4::make(&new, &["-O", "^has_journal", "-E", "root_owner=0:0"], Some(&root))?;
    file.sync_all().map_err(|source| failed(&new, source))?;
    Ok(new)
}

/// How many bytes the files of a tree take.
fn measure(directory: &Path, depth: usize) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += ENTRY_BYTES + metadata.len().next_multiple_of(4096);
        if metadata.is_dir() && depth < DEPTH_MAX {
            bytes += measure(&entry.path(), depth + 1)?;
        }
    }
    Ok(bytes)
}
