//! The machine's disks, held for as long as its monitor lives: who writes one has it alone. Engines differ in what they
//! lock; a volume must never be written by two kernels. It refuses to wait for anybody.

use std::{fs::File, io, path::PathBuf};

use hypercore_model::machine::{MachineDisk, MachineSpec};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

/// Why a disk can't be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum DiskError {
    /// Somebody has it, and one of both writes.
    #[error("the disk {} is used by another machine", .0.display())]
    Busy(PathBuf),
    /// It can't be opened or locked.
    #[error("the disk {} can't be used", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// All disks of a machine; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Held(#[expect(dead_code, reason = "the locks go with it")] Vec<Flock<File>>);

/// Takes all of them, or none.
pub(super) fn hold(spec: &MachineSpec) -> Result<Held, DiskError> {
    spec.disks.iter().map(lock).collect::<Result<_, _>>().map(Held)
}

fn lock(disk: &MachineDisk) -> Result<Flock<File>, DiskError> {
    let failed = |source| DiskError::File { path: disk.path.clone(), source };
    let file = File::open(&disk.path).map_err(failed)?;
    let how = if disk.read_only { FlockArg::LockSharedNonblock } else { FlockArg::LockExclusiveNonblock };
    Flock::lock(file, how).map_err(|(_, error)| match error {
        Errno::EWOULDBLOCK => DiskError::Busy(disk.path.clone()),
        error => failed(error.into()),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn one_writes_or_many_read() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("disk");
        fs::write(&path, "").unwrap();
        let disk = |read_only| MachineDisk { serial: "volume0".to_owned(), path: path.clone(), read_only };
        let reader = lock(&disk(true)).unwrap();
        let _other = lock(&disk(true)).unwrap();
        assert!(matches!(lock(&disk(false)), Err(DiskError::Busy(busy)) if busy == path));
        drop((reader, _other));
        let _writer = lock(&disk(false)).unwrap();
        assert!(lock(&disk(true)).is_err() && lock(&disk(false)).is_err());
    }
}
