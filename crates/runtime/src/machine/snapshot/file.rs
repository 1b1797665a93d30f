//! Files of snapshots, opened so that nothing else can be meant, and their digests. It refuses links, devices, and files
//! that others may write to.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt},
    path::Path,
};

use nix::{
    errno::Errno,
    libc,
    unistd::{Whence, geteuid, lseek64},
};
use serde::{Deserialize, Serialize};

use super::error::{FileFault, SnapshotError, disk};
use crate::machine::disk::copy_sparse;

/// Bytes that are digested, or skipped as nothing but zeros, at a time.
const BLOCK_BYTES: usize = 64 * 1024;

/// A file that was opened and looked at.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) stamp: Stamp,
    /// Its length, in bytes.
    pub(super) len: u64,
    /// What it takes on the disk, in bytes.
    pub(super) disk_bytes: u64,
    /// Whether it has other names.
    pub(super) is_linked: bool,
}

/// Which file it is, and when it was written last: a copy has another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    len_bytes: u64,
    modified_s: i64,
    modified_ns: i64,
}

impl Stamp {
    /// The stamp of the file at `path`; links are followed.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|metadata| Self::from(&metadata))
    }
}

impl From<&fs::Metadata> for Stamp {
    fn from(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            len_bytes: metadata.len(),
            modified_s: metadata.mtime(),
            modified_ns: metadata.mtime_nsec(),
        }
    }
}

/// Opens a file of a snapshot.
pub(super) fn open(path: &Path) -> Result<Opened, FileFault> {
    // A FIFO would block whoever opens it, and a device may do anything.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = opened.map_err(|error| match error.raw_os_error() {
        Some(libc::ENOENT) => FileFault::Missing,
        Some(libc::ELOOP | libc::ENXIO) => FileFault::Kind,
        _ => FileFault::Unreadable(error),
    })?;
    let metadata = file.metadata().map_err(FileFault::Unreadable)?;
    if !metadata.is_file() {
        return Err(FileFault::Kind);
    }
    if !is_own(&metadata) {
        return Err(FileFault::Foreign);
    }
    Ok(Opened {
        file,
        stamp: Stamp::from(&metadata),
        len: metadata.len(),
        disk_bytes: metadata.blocks() * 512,
        is_linked: metadata.nlink() > 1,
    })
}

/// Refuses a directory that is a link, or that others may write to.
pub(super) fn check_directory(path: &Path) -> Result<(), FileFault> {
    let metadata = fs::symlink_metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => FileFault::Missing,
        _ => FileFault::Unreadable(error),
    })?;
    match metadata.is_dir() {
        true if is_own(&metadata) => Ok(()),
        true => Err(FileFault::Foreign),
        false => Err(FileFault::Kind),
    }
}

/// Whether nobody but us can write to it.
fn is_own(metadata: &fs::Metadata) -> bool {
    metadata.uid() == geteuid().as_raw() && metadata.mode() & 0o022 == 0
}

/// A digest of a file's bytes, in hexadecimal. It goes over those blocks that are not zeros, each with its number, and
/// over the length: holes cost nothing, and it is the same wherever the file is written anew.
pub(super) fn digest(file: &File) -> io::Result<String> {
    let len = file.metadata()?.len();
    let mut hasher = blake3::Hasher::new();
    let mut block = vec![0; BLOCK_BYTES];
    let mut at = 0;
    while at < len {
        at = next_data(file, at)?;
        // Digested by whole blocks, wherever the hole ended.
        at -= at % BLOCK_BYTES as u64;
        if at >= len {
            break;
        }
        let wanted = usize::try_from(len - at).map_or(BLOCK_BYTES, |left| left.min(BLOCK_BYTES));
        file.read_exact_at(&mut block[..wanted], at)?;
        if block[..wanted].iter().any(|byte| *byte != 0) {
            hasher.update(&at.to_le_bytes());
            hasher.update(&block[..wanted]);
        }
        at += wanted as u64;
    }
    hasher.update(&len.to_le_bytes());
    Ok(hasher.finalize().to_hex().to_string())
}

/// Where the next bytes are that are no hole; the end of everything when there are none.
fn next_data(file: &File, at: u64) -> io::Result<u64> {
    let from = i64::try_from(at).map_err(io::Error::other)?;
    match lseek64(file, from, Whence::SeekData) {
        Ok(data) => Ok(data.unsigned_abs()),
        Err(Errno::ENXIO) => Ok(u64::MAX),
        Err(error) => Err(error.into()),
    }
}

/// Gives a file one more name, or copies it where that can't be.
pub(super) fn link(from: &Path, to: &Path) -> Result<(), SnapshotError> {
    match fs::hard_link(from, to) {
        // Another filesystem, or as many names as there can be.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EXDEV | libc::EMLINK | libc::EPERM)) => {
            copy_sparse(from, to).map_err(disk("copy", from))
        }
        linked => linked.map_err(disk("link", from)),
    }
}

/// Makes a directory for its owner alone; one that is there is fine.
pub(super) fn make_directory(path: &Path) -> Result<(), SnapshotError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(disk("make", path)(error)),
        _ => Ok(()),
    }
}

/// Removes whatever has that name; nothing is fine.
pub(super) fn remove_tree(path: &Path) -> Result<(), SnapshotError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(disk("remove", path)(error)),
        _ => Ok(()),
    }
}
