//! Where the store keeps its files, and how they get there: made in `temporary/`, renamed when they are whole.
//! It knows nothing of images.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use hypercore_model::Digest;
use nix::{errno::Errno, sys::statvfs::statvfs};

/// Bytes of its disk that the store leaves free: the node's own state lives beside it and must stay writable, whatever
/// an image unpacks to.
const ROOM_BYTES_MIN: u64 = 64 * 1024 * 1024;

/// Files that its disk can still take: the same for many small files, on file systems that count them.
const ROOM_FILES_MIN: u64 = 1000;

/// The directory of a store. Clones are the same store.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    root: Arc<Path>,
    temporaries: Arc<AtomicU64>,
}

/// Something unfinished. It is deleted when it is dropped before it was put into its place.
#[derive(Debug)]
pub(super) struct Temporary {
    path: PathBuf,
    is_placed: bool,
}

impl Layout {
    /// Makes the directories and deletes what was left unfinished.
    ///
    /// # Errors
    /// What failed, with its path.
    pub(super) fn open(root: &Path) -> Result<Self, (PathBuf, io::Error)> {
        let layout = Self { root: root.into(), temporaries: Arc::default() };
        let temporary = layout.temporary_directory();
        match fs::remove_dir_all(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err((temporary, error)),
            _ => {}
        }
        for directory in [layout.blobs(), layout.layers(), layout.all_verified(), temporary] {
            // Layers hold set-uid files of strangers: nobody but root may come near.
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory);
            made.map_err(|error| (directory, error))?;
        }
        Ok(layout)
    }

    /// The list of references.
    pub(super) fn references(&self) -> PathBuf {
        self.root.join("references.json")
    }

    /// All blobs, each named by its digest.
    pub(super) fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    /// A blob, which need not exist.
    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    /// All unpacked layers, each named by its diff_id.
    pub(super) fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    /// An unpacked layer, which need not exist.
    pub(super) fn layer(&self, diff_id: &Digest) -> PathBuf {
        self.layers().join(diff_id.hex())
    }

    /// All notes on who signed an image, each named by the digest of the image's manifest.
    pub(super) fn all_verified(&self) -> PathBuf {
        self.root.join("verified")
    }

    /// The note on one image, which need not exist.
    pub(super) fn verified(&self, manifest: &Digest) -> PathBuf {
        self.all_verified().join(manifest.hex())
    }

    /// What microVMs boot from: the images as filesystems, each named by the digest of its manifest, and what belongs to
    /// no image.
    pub(super) fn machines(&self) -> PathBuf {
        self.root.join("vm")
    }

    /// Notes that an image is used now: by the time stamp of its manifest, which costs no write of any content.
    pub(super) fn touch(&self, manifest: &Digest, now: SystemTime) -> io::Result<()> {
        File::options().append(true).open(self.blob(manifest))?.set_modified(now)
    }

    /// When an image was last used; long ago when that can't be told.
    pub(super) fn used_at(&self, manifest: &Digest) -> SystemTime {
        let modified = fs::metadata(self.blob(manifest)).and_then(|metadata| metadata.modified());
        modified.unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// How full the store's disk is, in percent of what others than root can use, as df(1) has it.
    pub(super) fn disk_used_percent(&self) -> io::Result<u8> {
        let disk = statvfs(&*self.root)?;
        let used = u128::from(disk.blocks().saturating_sub(disk.blocks_free()));
        let usable = used + u128::from(disk.blocks_available());
        let percent = (used * 100).checked_div(usable).unwrap_or(0);
        Ok(u8::try_from(percent).unwrap_or(100))
    }

    /// A new name in `temporary/`; nothing is made there yet.
    pub(super) fn temporary(&self) -> Temporary {
        let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
        Temporary { path: self.temporary_directory().join(number.to_string()), is_placed: false }
    }

    /// Writes the names in the store's directories to the disk: what was renamed into them survives a crash.
    pub(super) fn sync_names(&self) -> io::Result<()> {
        for directory in [self.blobs(), self.layers()] {
            File::open(directory)?.sync_all()?;
        }
        Ok(())
    }

    /// Replaces the list of references at once and durably.
    pub(super) fn write_references(&self, content: &[u8]) -> io::Result<()> {
        let temporary = self.temporary();
        fs::write(temporary.path(), content)?;
        File::open(temporary.path())?.sync_all()?;
        temporary.place(&self.references())?;
        File::open(&self.root)?.sync_all()
    }

    /// Fails as a full disk does unless the store's disk has that many bytes for it, and some to spare.
    pub(super) fn expect_room(&self, bytes: u64) -> io::Result<()> {
        expect_room(&self.root, bytes)
    }

    fn temporary_directory(&self) -> PathBuf {
        self.root.join("temporary")
    }
}

/// Fails as a full disk does unless the disk of `path` has that many bytes, and [`ROOM_BYTES_MIN`] to spare.
pub(super) fn expect_room(path: &Path, bytes: u64) -> io::Result<()> {
    let disk = statvfs(path)?;
    let free_bytes = disk.blocks_available().saturating_mul(disk.fragment_size());
    let is_short_of_files = disk.files() > 0 && disk.files_available() < ROOM_FILES_MIN;
    let is_full = is_short_of_files || free_bytes < bytes.saturating_add(ROOM_BYTES_MIN);
    if is_full { Err(Errno::ENOSPC.into()) } else { Ok(()) }
}

impl Temporary {
    /// Where it is being made.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Renames it to where it belongs. A file there is replaced; a directory there is the same layer and stays.
    pub(super) fn place(mut self, to: &Path) -> io::Result<()> {
        match fs::rename(&self.path, to) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            renamed => {
                self.is_placed = renamed.is_ok();
                renamed
            }
        }
    }

    /// Deletes it and says how many bytes of disk that freed.
    pub(super) fn delete(mut self) -> io::Result<u64> {
        let bytes = disk_bytes(&self.path);
        self.is_placed = true;
        delete(&self.path).map(|()| bytes)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.is_placed
            && let Err(error) = delete(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "can't delete an unfinished file of the image store");
        }
    }
}

fn delete(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

/// Bytes of disk below a path; files with several names count in parts. What can't be read counts nothing.
fn disk_bytes(path: &Path) -> u64 {
    let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
    let own_bytes = metadata.blocks() * 512;
    if !metadata.is_dir() {
        return own_bytes / metadata.nlink().max(1);
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    own_bytes + entries.map(|entry| disk_bytes(&entry.path())).sum::<u64>()
}
