//! `delete`: whatever state a container is in, afterwards nothing of it is left: processes, cgroups, state directory.
//! Processes are found by their cgroup, never by a remembered pid: that number may be somebody else's by now.
//! It refuses to touch the bundle; that is the runtime's.

use std::{fs, io, path::PathBuf};

use libcontainer::config::{ConfigError, YoukiConfig};

use super::{
    Container,
    cgroup::{Cgroup, CgroupError},
};

/// Why something may be left.
#[derive(Debug, thiserror::Error)]
pub(super) enum DeleteError {
    /// What the engine noted about the container is unreadable.
    #[error("the container's notes can't be read")]
    Notes(#[source] ConfigError),
    /// Processes or cgroups are left.
    #[error("the container's cgroup is left")]
    Cgroup(#[source] CgroupError),
    /// The state directory is left.
    #[error("{} can't be removed", path.display())]
    Directory {
        /// The state directory.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Kills and removes `container`. Fine if there is none.
pub(super) fn delete(container: &Container) -> Result<(), DeleteError> {
    let directory = container.directory();
    match YoukiConfig::load(&directory) {
        Ok(notes) => remove_cgroup(&notes)?,
        // Nothing is noted before something runs: then no process and no cgroup was made.
        Err(ConfigError::LoadIO { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(DeleteError::Notes(error)),
    }
    match fs::remove_dir_all(&directory) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(DeleteError::Directory { path: directory, source })
        }
        _ => Ok(()),
    }
}

fn remove_cgroup(notes: &YoukiConfig) -> Result<(), DeleteError> {
    Cgroup::at(&notes.cgroup_path).and_then(|cgroup| cgroup.remove()).map_err(DeleteError::Cgroup)
}
