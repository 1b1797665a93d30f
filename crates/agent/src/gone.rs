//! The records of workloads that were removed: logs and exit reasons stay where they were for a while, so that whoever
//! was attached to a `--rm` workload, or asks a moment too late, still gets an answer.
//! It refuses to keep disks: only small records stay.

use std::{fs, io, path::PathBuf, time::Duration};

use crate::{clock::system_time, directory::WorkloadPaths};

/// Why a removed workload's files could not be dealt with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuryError {
    /// They could not be removed.
    #[error("removing {} failed", .0.display())]
    Remove(PathBuf, #[source] io::Error),
    /// The time of the removal could not be noted.
    #[error("noting the time at {} failed", .0.display())]
    Touch(PathBuf, #[source] io::Error),
}

/// Removes a removed workload's disks. Its records stay, and their time counts from here.
/// Doing it twice is no error, and does not make them stay longer.
pub(crate) fn bury(paths: &WorkloadPaths) -> Result<(), BuryError> {
    let mut has_disks = false;
    for disk in paths.disks() {
        has_disks |= disk.exists();
        remove(disk)?;
    }
    if has_disks {
        let directory = paths.directory();
        let touched = fs::File::open(directory).and_then(|file| file.set_modified(system_time()));
        touched.map_err(|error| BuryError::Touch(directory.to_owned(), error))?;
    }
    Ok(())
}

/// Removes the records of a removed workload when they were kept for that long. Answers whether they were. A clock that
/// was set back keeps them longer, never shorter.
pub(crate) fn forget_when_old(paths: &WorkloadPaths, keep: Duration) -> Result<bool, BuryError> {
    let directory = paths.directory();
    let modified = fs::metadata(directory).and_then(|metadata| metadata.modified());
    let modified = modified.map_err(|error| BuryError::Remove(directory.to_owned(), error))?;
    let is_old = system_time().duration_since(modified).unwrap_or_default() > keep;
    if is_old {
        remove(directory.to_owned())?;
    }
    Ok(is_old)
}

fn remove(path: PathBuf) -> Result<(), BuryError> {
    let removed = if path.is_file() { fs::remove_file(&path) } else { fs::remove_dir_all(&path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(BuryError::Remove(path, error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn buried() -> (tempfile::TempDir, WorkloadPaths) {
        let root = tempfile::tempdir().unwrap();
        let paths = WorkloadPaths::at(root.path().join("w"));
        fs::create_dir_all(paths.disks()[0].join("big")).unwrap();
        fs::write(paths.directory().join("writable.ext4"), "of a machine").unwrap();
        fs::write(paths.outcome(), "{}").unwrap();
        bury(&paths).unwrap();
        (root, paths)
    }

    #[test]
    fn records_are_kept_and_disks_are_not() {
        let (_root, paths) = buried();
        bury(&paths).unwrap();
        assert!(paths.outcome().exists() && !paths.disks().iter().any(|disk| disk.exists()));
        assert!(!forget_when_old(&paths, HOUR).unwrap());
    }

    #[test]
    fn old_records_are_forgotten() {
        let (_root, paths) = buried();
        fs::File::open(paths.directory()).unwrap().set_modified(system_time() - HOUR * 2).unwrap();
        bury(&paths).unwrap();
        assert!(forget_when_old(&paths, HOUR).unwrap());
        assert!(!paths.directory().exists());
    }

    #[test]
    fn a_clock_that_jumps_back_keeps_records_longer_and_never_shorter() {
        let (_root, paths) = buried();
        let ahead = system_time() + HOUR * 24;
        fs::File::open(paths.directory()).unwrap().set_modified(ahead).unwrap();
        assert!(!forget_when_old(&paths, HOUR).unwrap());
        assert!(paths.outcome().exists());
    }
}
