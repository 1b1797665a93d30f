//! The files of a workload that doesn't run: its root is mounted for one thread alone, and goes with that thread.
//! Nothing has to be unmounted afterwards, also after a crash, and nobody else sees it meanwhile.

use std::{
    io,
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use super::{error::CopyError, root::Root};
use crate::bundle;

impl Root {
    /// The root of the workload in `directory`, made of its image's layers (bottom first) and of what it wrote. Leaves
    /// the calling thread in a mount namespace of its own: the thread must not do anything else any more.
    ///
    /// # Errors
    /// [`CopyError::Root`].
    pub fn of_stopped(layers: &[PathBuf], directory: &Path) -> Result<Self, CopyError> {
        let rootfs = mounted(layers, directory).map_err(CopyError::Root)?;
        Self::of_directory(&rootfs)
    }
}

fn mounted(layers: &[PathBuf], directory: &Path) -> io::Result<PathBuf> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    // What is mounted here stays here; what is unmounted outside goes here too.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)?;
    bundle::mount_rootfs(layers, directory).map_err(io::Error::other)
}
