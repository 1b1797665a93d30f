//! Where a node keeps what: typed paths below its two directories. It refuses to share a directory with another
//! agent, and to work with one that others may read.
//!
//! ```text
//!   data_directory (0700)                       runtime_directory (0700)
//!     lock          held while an agent runs      lock
//!     identity.key  0600, the node's seed         api.sock
//!     data.key      0600, unlocks node.redb       shim/<id>.sock
//!     ca.key        0600, ca.pem: see certificates
//!     node.redb     the sealed state              engine/          of the container engine
//!     ballast       room for a full disk
//!     images/       of runtime::image             netns/<id>       network namespaces
//!     volumes/      of runtime::volume
//!     snapshots/    of runtime::machine::snapshot
//!     workloads/<id>/                see WorkloadPaths
//! ```

mod lock;
pub(crate) mod secret;
mod workload;

#[cfg(test)]
mod tests;

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use hypercore_model::WorkloadId;
use hypercore_store::WrappingKey;
use hypercore_trust::Identity;
use nix::{
    sys::statfs::{FsType, TMPFS_MAGIC, statfs},
    unistd::geteuid,
};

use lock::Lock;
pub(crate) use lock::LockError;
pub(crate) use secret::SecretError;
pub(crate) use workload::WorkloadPaths;

/// Why the directories can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DirectoryError {
    /// The directory can't be made.
    #[error("making the directory {path} failed")]
    Make {
        /// Which directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others may look into the directory.
    #[error("{path} is open to others (mode {mode:03o}); run: chmod 700 {path}", path = .path.display())]
    Mode {
        /// Which directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The directory belongs to somebody else.
    #[error("{path} belongs to the user {uid}, not to the one who runs this; run: chown {me} {path}", path = .path.display(), me = geteuid())]
    Owner {
        /// Which directory.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
    },
    /// Another agent uses the directory.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A key can't be read or made.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A key is missing, although something that needs it is there.
    #[error("{key} is missing, but {needs_it} can't be used without it; restore it, or move both away to begin anew", key = .key.display(), needs_it = .needs_it.display())]
    KeyMissing {
        /// The missing key.
        key: PathBuf,
        /// What was made with it.
        needs_it: PathBuf,
    },
}

/// A node's two directories, locked against other agents until the last clone is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    data: PathBuf,
    runtime: PathBuf,
    _locks: Arc<[Lock; 2]>,
}

impl Directory {
    /// Makes what is missing of both directories, checks their modes, and locks them.
    pub(crate) fn open(data: &Path, runtime: &Path) -> Result<Self, DirectoryError> {
        for path in [data, runtime] {
            make_private(path)?;
        }
        if !is_in_memory(runtime) {
            tracing::warn!(
                path = %runtime.display(),
                "the runtime directory is on a disk, and with it the environments of workloads; choose one on a tmpfs"
            );
        }
        let locks = [Lock::acquire(&data.join("lock"))?, Lock::acquire(&runtime.join("lock"))?];
        let directory = Self { data: data.to_owned(), runtime: runtime.to_owned(), _locks: Arc::new(locks) };
        for path in [directory.images(), directory.workloads(), directory.netns()] {
            make_private(&path)?;
        }
        for path in [directory.shims(), directory.engine()] {
            make_private(&path)?;
        }
        Ok(directory)
    }

    /// The node's identity: read from `identity.key`, which is made on the first start.
    pub(crate) fn identity(&self) -> Result<Identity, DirectoryError> {
        let seed = self.key(self.data.join("identity.key"))?;
        Ok(Identity::from_seed(&seed))
    }

    /// What unlocks the state: read from `data.key`, which is made on the first start.
    pub(crate) fn data_key(&self) -> Result<WrappingKey, DirectoryError> {
        Ok(WrappingKey::File(self.key(self.data.join("data.key"))?))
    }

    /// A key whose file is missing is made, unless there is a state already that was made with another one.
    fn key(&self, path: PathBuf) -> Result<secret::Secret, DirectoryError> {
        match secret::read(&path) {
            Err(SecretError::Missing(_)) if self.state().exists() => {
                Err(DirectoryError::KeyMissing { key: path, needs_it: self.state() })
            }
            Err(SecretError::Missing(_)) => Ok(secret::make(&path)?),
            read => Ok(read?),
        }
    }

    /// The data directory itself.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// The sealed state.
    pub(crate) fn state(&self) -> PathBuf {
        self.data.join("node.redb")
    }

    /// The registries that this node is logged in to, with the passwords.
    pub(crate) fn registry_logins(&self) -> PathBuf {
        self.data.join("registry-logins.json")
    }

    /// The room that is given up when the disk is full.
    pub(crate) fn ballast(&self) -> PathBuf {
        self.data.join("ballast")
    }

    /// The image store's directory.
    pub(crate) fn images(&self) -> PathBuf {
        self.data.join("images")
    }

    /// The volumes' directory.
    pub(crate) fn volumes(&self) -> PathBuf {
        self.data.join("volumes")
    }

    /// The snapshots' directory.
    pub(crate) fn snapshots(&self) -> PathBuf {
        self.data.join("snapshots")
    }

    /// Where each workload has its directory.
    pub(crate) fn workloads(&self) -> PathBuf {
        self.data.join("workloads")
    }

    /// One workload's own directory, which need not exist.
    pub(crate) fn workload(&self, id: WorkloadId) -> WorkloadPaths {
        WorkloadPaths::at(self.workloads().join(id.to_string()))
    }

    /// Every workload that has a directory. What isn't named after a workload is left out.
    pub(crate) fn workload_ids(&self) -> io::Result<Vec<WorkloadId>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(self.workloads())? {
            ids.extend(entry?.file_name().to_str().and_then(|name| name.parse::<WorkloadId>().ok()));
        }
        Ok(ids)
    }

    /// The API's socket.
    pub(crate) fn api_socket(&self) -> PathBuf {
        self.runtime.join("api.sock")
    }

    /// Where network namespaces are kept by name.
    pub(crate) fn netns(&self) -> PathBuf {
        self.runtime.join("netns")
    }

    /// Where the shims' sockets are.
    pub(crate) fn shims(&self) -> PathBuf {
        self.runtime.join("shim")
    }

    /// The container engine's own records.
    pub(crate) fn engine(&self) -> PathBuf {
        self.runtime.join("engine")
    }
}

/// Whether what is written to a directory stays in memory. One that can't be asked counts as a disk.
fn is_in_memory(path: &Path) -> bool {
    const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);
    statfs(path).is_ok_and(|stat| [TMPFS_MAGIC, RAMFS_MAGIC].contains(&stat.filesystem_type()))
}

/// Makes a directory for its owner alone, or checks that an existing one is that. It is never changed: a wrong path
/// in the configuration must not close somebody's home.
fn make_private(path: &Path) -> Result<(), DirectoryError> {
    let failed = |source| DirectoryError::Make { path: path.to_owned(), source };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    let metadata = fs::metadata(path).map_err(failed)?;
    let mode = metadata.mode() & 0o777;
    if !metadata.is_dir() {
        return Err(failed(io::ErrorKind::NotADirectory.into()));
    }
    if metadata.uid() != geteuid().as_raw() {
        return Err(DirectoryError::Owner { path: path.to_owned(), uid: metadata.uid() });
    }
    if mode & 0o077 != 0 {
        return Err(DirectoryError::Mode { path: path.to_owned(), mode });
    }
    Ok(())
}
