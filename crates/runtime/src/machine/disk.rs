//! The disk that is a machine's own: sparse, of a fixed size, with an empty filesystem. Making a filesystem takes longer
//! than copying an empty one, which is a few blocks; so one is kept of the default size.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    unistd::{Whence, lseek64},
};

use super::{
    ext4::{self, Ext4Error},
    once::once,
};

/// Most that a machine can write to its disk when nobody said it, in bytes. It takes no room before it is written.
const SIZE_BYTES_DEFAULT: u64 = 10 << 30;

/// How an empty filesystem is made: what can be done when it is first used is done then, and its file stays sparse.
pub(crate) const EMPTY: [&str; 2] = ["-E", "lazy_itable_init=1,lazy_journal_init=1"];

/// Why there is no disk.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// A file of it.
    #[error("{} can't be written", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Its filesystem.
    #[error(transparent)]
    Make(#[from] Ext4Error),
}

/// Makes the disk `path`, of the default size as a copy of a template in `directory`. One that is there is left as it is:
/// it is what the machine wrote before. Blocks for some milliseconds.
///
/// # Errors
/// [`DiskError`]; nothing is left of a disk that could not be made.
pub fn create(path: &Path, size_bytes: Option<u64>, directory: &Path) -> Result<(), DiskError> {
    if path.exists() {
        return Ok(());
    }
    match size_bytes {
        // Whoever chooses sizes could fill the node with a template for each.
        Some(size_bytes) => format(size_bytes, path),
        None => {
            let template = template(directory)?;
            place(path, |new| copy_sparse(&template, new).map_err(failed(path)))
        }
    }
}

fn template(directory: &Path) -> Result<PathBuf, DiskError> {
    let path = directory.join(format!("empty-{SIZE_BYTES_DEFAULT}.ext4"));
    once(&path, || {
        fs::create_dir_all(directory).map_err(failed(&path))?;
        format(SIZE_BYTES_DEFAULT, &path)
    })?;
    Ok(path)
}

fn format(size_bytes: u64, path: &Path) -> Result<(), DiskError> {
    place(path, |new| {
        create_private(new).and_then(|file| file.set_len(size_bytes)).map_err(failed(path))?;
        Ok(ext4::make(new, &EMPTY, None)?)
    })
}

/// Has `make` make a file beside `path`, and puts it there when it is whole.
fn place(path: &Path, make: impl FnOnce(&Path) -> Result<(), DiskError>) -> Result<(), DiskError> {
    let new = path.with_extension("new");
    let placed = make(&new).and_then(|()| fs::rename(&new, path).map_err(failed(path)));
    if placed.is_err() {
        // The error that explains is the one of the failed step.
        let _ = fs::remove_file(&new);
    }
    placed
}

fn failed(path: &Path) -> impl Fn(io::Error) -> DiskError {
    move |source| DiskError::File { path: path.to_owned(), source }
}

pub(crate) fn create_private(path: &Path) -> io::Result<File> {
    File::options().write(true).read(true).create(true).truncate(true).mode(0o600).open(path)
}

/// Copies what a file holds and leaves its holes holes. The kernel shares blocks where the filesystem can.
///
/// # Errors
/// What the kernel says; a full disk among it.
pub fn copy_sparse(from: &Path, to: &Path) -> io::Result<()> {
    let (source, target) = (File::open(from)?, create_private(to)?);
    let len = source.metadata()?.len();
    target.set_len(len)?;
    let len = i64::try_from(len).map_err(io::Error::other)?;
    let mut at = 0;
    while at < len {
        let data = match lseek64(&source, at, Whence::SeekData) {
            Ok(data) => data,
            // Nothing but a hole is left.
            Err(Errno::ENXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = lseek64(&source, data, Whence::SeekHole)?;
        // The search moved the source; both are now where the data begins.
        (&source).seek(SeekFrom::Start(data.unsigned_abs()))?;
        (&target).seek(SeekFrom::Start(data.unsigned_abs()))?;
        let mut piece = (&source).take((end - data).unsigned_abs());
        io::copy(&mut piece, &mut &target)?;
        at = end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;

    #[test]
    fn only_disks_of_the_default_size_leave_a_template() {
        let scratch = tempfile::tempdir().unwrap();
        let (cache, path) = (scratch.path().join("cache"), scratch.path().join("writable.ext4"));
        create(&path, Some(64 << 20), &cache).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 64 << 20);
        assert!(!cache.exists());
        create(&path, None, &cache).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 64 << 20, "what was there is gone");
        fs::remove_file(&path).unwrap();
        create(&path, None, &cache).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), SIZE_BYTES_DEFAULT);
        assert_eq!(fs::read_dir(&cache).unwrap().count(), 1);
        assert!(create(&scratch.path().join("none/disk"), Some(64 << 20), &cache).is_err());
    }

    #[test]
    fn a_sparse_copy_has_the_content_and_the_holes() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("a"), directory.path().join("b"));
        let file = File::create(&from).unwrap();
        file.set_len(64 << 20).unwrap();
        for at in [0, 1 << 20, (64 << 20) - 5] {
            file.write_all_at(b"data", at).unwrap();
        }
        copy_sparse(&from, &to).unwrap();
        assert!(fs::read(&from).unwrap() == fs::read(&to).unwrap());
        assert!(fs::metadata(&to).unwrap().blocks() * 512 < 1 << 20, "the holes were written");
    }
}
