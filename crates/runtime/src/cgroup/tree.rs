//! Removal of cgroups, deepest first, in every hierarchy they exist in. It refuses to kill: whatever has processes in
//! it stays, and they are named.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use hypercore_model::WorkloadId;
use nix::libc::{EBUSY, ENODEV, EOPNOTSUPP};

/// Why a cgroup could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// Processes are still inside.
    #[error("the cgroup {path} still has processes inside: {pids:?}")]
    Busy {
        /// The cgroup's directory.
        path: PathBuf,
        /// The processes.
        pids: BTreeSet<u32>,
    },
    /// A directory or `cgroup.procs` can't be read.
    #[error("can't read {path}")]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel refuses to remove the directory for another reason.
    #[error("can't remove the cgroup {path}")]
    Rmdir {
        /// Its directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What a sweep found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Swept {
    /// Workloads whose cgroups were removed.
    pub removed: BTreeSet<WorkloadId>,
    /// Workloads that are not to be kept but still have processes: whoever called must end those.
    pub busy: BTreeMap<WorkloadId, BTreeSet<u32>>,
}

/// Removes the same cgroup in several hierarchies.
pub(super) fn remove(directories: &[PathBuf]) -> Result<(), RemoveError> {
    // All are looked at before any is removed: half a cgroup would leave its processes without some limits' names.
    for directory in directories {
        let pids = processes_below(directory)?;
        if !pids.is_empty() {
            return Err(RemoveError::Busy { path: directory.clone(), pids });
        }
    }
    directories.iter().try_for_each(|directory| remove_tree(directory))
}

/// The processes of the same cgroup in several hierarchies.
pub(super) fn processes(directories: &[PathBuf]) -> Result<BTreeSet<u32>, RemoveError> {
    let mut pids = BTreeSet::new();
    for directory in directories {
        pids.append(&mut processes_below(directory)?);
    }
    Ok(pids)
}

/// Removes the children of `parents` (one cgroup in several hierarchies) that are named after a workload not to keep.
pub(super) fn sweep(
    parents: &[PathBuf],
    keep: impl FnOnce() -> BTreeSet<WorkloadId>,
) -> Result<Swept, RemoveError> {
    let mut found = BTreeSet::new();
    for parent in parents {
        let names = children(parent)?.into_iter().filter_map(|path| path.file_name()?.to_str()?.parse().ok());
        found.extend::<BTreeSet<WorkloadId>>(names.collect());
    }
    let keep = keep();
    let mut swept = Swept::default();
    for id in found.difference(&keep).copied() {
        let directories: Vec<PathBuf> = parents.iter().map(|parent| parent.join(id.to_string())).collect();
        match remove(&directories) {
            Ok(()) => drop(swept.removed.insert(id)),
            Err(RemoveError::Busy { .. }) => drop(swept.busy.insert(id, processes(&directories)?)),
            Err(error) => return Err(error),
        }
    }
    Ok(swept)
}

fn remove_tree(directory: &Path) -> Result<(), RemoveError> {
    for child in children(directory)? {
        remove_tree(&child)?;
    }
    match fs::remove_dir(directory) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.raw_os_error() == Some(EBUSY) => {
            Err(RemoveError::Busy { path: directory.to_owned(), pids: processes_below(directory)? })
        }
        Err(source) => Err(RemoveError::Rmdir { path: directory.to_owned(), source }),
    }
}

fn processes_below(directory: &Path) -> Result<BTreeSet<u32>, RemoveError> {
    let mut pids = own_processes(directory)?;
    for child in children(directory)? {
        pids.append(&mut processes_below(&child)?);
    }
    Ok(pids)
}

fn own_processes(directory: &Path) -> Result<BTreeSet<u32>, RemoveError> {
    let path = directory.join("cgroup.procs");
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
        // EOPNOTSUPP: a threaded v2 cgroup, whose processes its parent lists.
        Err(error) if is_gone(&error) || error.raw_os_error() == Some(EOPNOTSUPP) => Ok(BTreeSet::new()),
        Err(source) => Err(RemoveError::Read { path, source }),
    }
}

/// The cgroups right below one; none when it doesn't exist.
fn children(directory: &Path) -> Result<Vec<PathBuf>, RemoveError> {
    let wrap = |source| RemoveError::Read { path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if is_gone(&error) => return Ok(Vec::new()),
        Err(source) => return Err(wrap(source)),
    };
    let mut children = Vec::new();
    for entry in entries {
        let entry = entry.map_err(wrap)?;
        if entry.file_type().map_err(wrap)?.is_dir() {
            children.push(entry.path());
        }
    }
    Ok(children)
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(ENODEV)
}
