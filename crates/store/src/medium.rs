//! What a store is kept on: a file or memory. It refuses to interpret what is in it.

use std::{
    fs::{File, OpenOptions},
    io,
    ops::Bound,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, fallocate},
};
use redb::{
    BackendError, Database, DatabaseError, StorageBackend,
    backends::{FileBackend, InMemoryBackend},
};

/// How much memory redb may use to keep pages. The state is read once and then kept by its owner.
const CACHE_BYTES: usize = 4 * 1024 * 1024;

/// Whether a write waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flush {
    /// It does: what was acknowledged survives a loss of power.
    Always,
    /// It doesn't: what was acknowledged survives the death of the process, but not that of the machine, which may
    /// even leave the file damaged.
    Never,
}

/// Where the bytes are.
#[derive(Debug, Clone)]
pub(crate) enum Medium {
    /// A file.
    File { path: PathBuf, flush: Flush },
    /// Memory that is gone with the store.
    Memory,
    /// A disk that fails on demand.
    #[cfg(any(test, feature = "faulty"))]
    Faulty(crate::faulty::FaultyDisk),
}

impl Medium {
    pub(crate) fn open(&self) -> Result<Database, DatabaseError> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        match self {
            Self::File { path, flush } => {
                let file = open_file(path)?;
                let room = Some(file.try_clone()?);
                builder.create_with_backend(Disk { inner: FileBackend::new(file)?, flush: *flush, room })
            }
            Self::Memory => builder.create_with_backend(InMemoryBackend::new()),
            #[cfg(any(test, feature = "faulty"))]
            Self::Faulty(disk) => {
                builder.create_with_backend(Disk { inner: disk.clone(), flush: Flush::Always, room: None })
            }
        }
    }

    /// Whether opening it again finds what was written before.
    pub(crate) const fn is_lasting(&self) -> bool {
        !matches!(self, Self::Memory)
    }
}

/// Opens the file, or makes it for its owner alone and makes sure that its name lasts.
fn open_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let file = options.create_new(true).open(path)?;
            File::open(path.parent().filter(|parent| *parent != "").unwrap_or(Path::new(".")))?.sync_all()?;
            Ok(file)
        }
        opened => opened,
    }
}

/// Has the file system set blocks apart for `len` bytes from `offset`. One that can't sets them apart when they are
/// written, as for any file.
fn take_room(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else { return Ok(()) };
    match fallocate(file, FallocateFlags::empty(), offset, len) {
        Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Where redb's file header keeps its flags, and the flag that says "committed in two phases" (file format 3).
const FLAGS_OFFSET: usize = 9;
const TWO_PHASE_COMMIT: u8 = 4;

/// A disk whose flushes can be left out, and whose pages redb checks whenever it opens it.
///
/// After a clean end redb trusts its snapshot of the allocator and checks no page, and a flipped bit comes up as a
/// panic at some later time. It believes the snapshot only under the flag of a two-phase commit; with the flag hidden
/// it takes the same path as after a crash: every page's checksum, then the allocator rebuilt. The test
/// `damage_is_an_error_and_never_a_panic_or_a_wrong_value` would tell if a new release of redb changed that.
#[derive(Debug)]
struct Disk<B> {
    inner: B,
    flush: Flush,
    /// The file whose room on the disk is taken when it grows, and not only when it is written: a full disk then fails
    /// the growth and nothing else, and what fits into the file as it is can always be written.
    room: Option<File>,
}

impl<B: StorageBackend> StorageBackend for Disk<B> {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)?;
        if offset == 0
            && let Some(flags) = out.get_mut(FLAGS_OFFSET)
        {
            *flags &= !TWO_PHASE_COMMIT;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let before = self.inner.len()?;
        if let (Some(file), Some(grown)) = (&self.room, len.checked_sub(before).filter(|grown| *grown > 0))
            && let Err(error) = take_room(file, before, grown)
        {
            // Part of it may be taken, and is given back.
            self.inner.set_len(before)?;
            return Err(error);
        }
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.flush {
            Flush::Always => self.inner.sync_data(),
            Flush::Never => Ok(()),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.inner.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}
