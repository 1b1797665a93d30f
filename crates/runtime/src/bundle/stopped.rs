//! The files of a workload that doesn't run: its root is mounted for one thread alone, and goes with that thread.
//! Nothing has to be unmounted afterwards, also after a crash, and nobody else sees it meanwhile.

use std::{
    io,
    path::{Path, PathBuf},
};

use hypercore_copy::{CopyError, IdMap, Root};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use super::{Mapping, mount_mapped_rootfs, mount_rootfs};

/// The root of the workload in `directory`, made of its image's layers (bottom first) and of what it wrote. Leaves
/// the calling thread in a mount namespace of its own: the thread must not do anything else any more.
/// A workload with a user namespace needs its `engine`, which mounts the root as the workload sees it.
///
/// # Errors
/// [`CopyError::Root`].
pub fn stopped_root(layers: &[PathBuf], directory: &Path, engine: Option<&Path>) -> Result<Root, CopyError> {
    let (rootfs, ids) = mounted(layers, directory, engine).map_err(CopyError::Root)?;
    Root::of_directory(&rootfs).map(|root| root.with_ids(ids))
}

fn mounted(layers: &[PathBuf], directory: &Path, engine: Option<&Path>) -> io::Result<(PathBuf, IdMap)> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    // What is mounted here stays here; what is unmounted outside goes here too.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)?;
    let mounted = match engine {
        None => mount_rootfs(layers, directory).map(|rootfs| (rootfs, IdMap::identity())),
        Some(engine) => mount_mapped_rootfs(layers, directory, engine)
            .map(|(rootfs, first)| (rootfs, IdMap::shifted(first, Mapping::COUNT))),
    };
    mounted.map_err(io::Error::other)
}
