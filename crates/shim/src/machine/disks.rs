//! The machine's disks, held for as long as its monitor lives: who writes one has it alone. Engines differ in what they
//! lock; a volume must never be written by two kernels. It refuses to wait for a machine that runs.

use std::{
    fs::File,
    io,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use hypercore_model::machine::{MachineDisk, MachineSpec};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

/// How long a disk may be held by who only looks whether it is free, or is about to end.
const LOOK_TIME_MAX: Duration = Duration::from_secs(1);
/// How often is tried meanwhile.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

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
    let mut file = File::open(&disk.path).map_err(failed)?;
    let how = if disk.read_only { FlockArg::LockSharedNonblock } else { FlockArg::LockExclusiveNonblock };
    let deadline = Instant::now() + LOOK_TIME_MAX;
    loop {
        file = match Flock::lock(file, how) {
            Ok(held) => return Ok(held),
            Err((file, Errno::EWOULDBLOCK)) if Instant::now() < deadline => file,
            Err((_, Errno::EWOULDBLOCK)) => return Err(DiskError::Busy(disk.path.clone())),
            Err((_, error)) => return Err(failed(error.into())),
        };
        thread::sleep(LOOK_INTERVAL);
    }
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
