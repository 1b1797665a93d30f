//! The disk that is a machine's own: sparse, of a fixed size, with an empty filesystem. Making a filesystem takes longer
//! than copying an empty one, which is a few blocks; so one is made for each size.

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

/// Makes the disk `path` of `size_bytes`, from a template in `directory`. One that is there is left as it is: it is what
/// the machine wrote before. Blocks for some milliseconds.
///
/// # Errors
/// [`DiskError`]; nothing is left of a disk that could not be made.
pub fn create(path: &Path, size_bytes: u64, directory: &Path) -> Result<(), DiskError> {
    if path.exists() {
        return Ok(());
    }
    let template = template(size_bytes, directory)?;
    let new = path.with_extension("new");
    let copied = copy_sparse(&template, &new).and_then(|()| fs::rename(&new, path));
    copied.map_err(|source| {
        // The error that explains is the one of the failed step.
        let _ = fs::remove_file(&new);
        DiskError::File { path: path.to_owned(), source }
    })
}

fn template(size_bytes: u64, directory: &Path) -> Result<PathBuf, DiskError> {
    let path = directory.join(format!("empty-{size_bytes}.ext4"));
    once(&path, || format(size_bytes, directory, &path))?;
    Ok(path)
}

fn format(size_bytes: u64, directory: &Path, path: &Path) -> Result<(), DiskError> {
    let new = path.with_extension("new");
    let failed = |source| DiskError::File { path: path.to_owned(), source };
    let made = fs::create_dir_all(directory).and_then(|()| create_private(&new));
    made.and_then(|file| file.set_len(size_bytes)).map_err(failed)?;
    ext4::make(&new, &EMPTY, None)?;
    fs::rename(&new, path).map_err(failed)
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
