//! One agent per directory: an exclusive `flock`, which the kernel gives back when the holder dies however it dies.
//! It refuses to believe a pid that stands in a file; the pid is only there for people.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// Why a directory can't be locked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    /// Another agent holds it.
    #[error("{} is in use by another agent{}; stop it, or choose other directories", .directory.display(), holder(*.pid))]
    Held {
        /// The directory.
        directory: PathBuf,
        /// The holder's process id, if it wrote one.
        pid: Option<u32>,
    },
    /// The lock file can't be opened, locked or written.
    #[error("locking {} failed", .path.display())]
    File {
        /// The lock file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

/// A held lock. The kernel gives it back when this is dropped, or with the process.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock in the file at `path`, which is made when it is missing and never removed: removing it would let
    /// two agents lock two files of the same name.
    pub(super) fn acquire(path: &Path) -> Result<Self, LockError> {
        let failed = |source| LockError::File { path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let directory = path.parent().unwrap_or(path).to_owned();
                return Err(LockError::Held { directory, pid: read_pid(&mut file) });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        write_pid(&mut file).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}
