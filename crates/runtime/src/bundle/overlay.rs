//! The overlay mount that makes one rootfs of an image's layers.
//!
//! Options of mount(2) are limited to one page, and overlayfs gives `:`, `,` and `\` a meaning of their own. So every
//! directory is opened first and named `/proc/self/fd/N`: short, whatever its path; 127 layers and more fit, names with
//! colons work, and a layer that is missing is found before anything is mounted. (Kernels from 6.8 on take one layer at
//! a time by `fsconfig`; this works on all of them.)
//!
//! It refuses to mount a second time over a rootfs that is there already.

use std::{
    fmt::Write as _,
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount as sys_mount, umount2},
    sys::statfs::{OVERLAYFS_SUPER_MAGIC, statfs},
};

use super::{BundleError, DiscardError};

/// Longest option text that mount(2) takes: one page, with the NUL at its end.
const OPTIONS_LEN_MAX: usize = 4095;

/// Where the rootfs of the bundle in `directory` is mounted.
pub(super) fn mount_point(directory: &Path) -> PathBuf {
    directory.join("rootfs")
}

/// Mounts `layers` (bottom first) below `directory/upper` at `directory/rootfs`. False if it was mounted already.
pub(super) fn mount(layers: &[PathBuf], directory: &Path) -> Result<bool, BundleError> {
    let rootfs = mount_point(directory);
    if is_mounted(directory, &rootfs) {
        return Ok(false);
    }
    if layers.is_empty() {
        return Err(BundleError::NoLayers);
    }
    let upper = directory.join("upper");
    let work = directory.join("work");
    // The mode of upper is what the workload sees as the mode of `/`.
    for (path, mode) in [(&rootfs, 0o700), (&upper, 0o755), (&work, 0o700)] {
        make_directory(path, mode).map_err(|source| BundleError::Directory { path: path.clone(), source })?;
    }
    let lowers = layers.iter().rev().map(|path| open(path)).collect::<Result<Vec<_>, _>>()?;
    let (upper, work) = (open(&upper)?, open(&work)?);
    let options = options(&lowers, &upper, &work);
    if options.len() > OPTIONS_LEN_MAX {
        return Err(BundleError::TooManyLayers(layers.len()));
    }
    // Device nodes of an image must not open devices of the host; the workload's own are in the tmpfs on /dev.
    let flags = MsFlags::MS_NODEV;
    sys_mount(Some("overlay"), &rootfs, Some("overlay"), flags, Some(options.as_str()))
        .map_err(|errno| BundleError::Mount { path: rootfs, source: errno.into() })?;
    Ok(true)
}

/// Unmounts `directory/rootfs`, however often it was mounted.
pub(super) fn unmount(directory: &Path) -> Result<(), DiscardError> {
    let rootfs = mount_point(directory);
    loop {
        match umount2(&rootfs, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            // Not a mount point (any more), or not even a directory.
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(DiscardError { path: rootfs, source: errno.into() }),
        }
    }
}

/// Whether an overlay is mounted at `rootfs`: by its type, and because it is another device than what is around it.
fn is_mounted(directory: &Path, rootfs: &Path) -> bool {
    let is_overlay = statfs(rootfs).is_ok_and(|stat| stat.filesystem_type() == OVERLAYFS_SUPER_MAGIC);
    match (fs::symlink_metadata(directory), fs::symlink_metadata(rootfs)) {
        (Ok(around), Ok(root)) => is_overlay && around.dev() != root.dev(),
        _ => false,
    }
}

fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(mode).create(path)?;
    fs::set_permissions(path, Permissions::from_mode(mode))
}

fn open(path: &Path) -> Result<File, BundleError> {
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    opened.map_err(|source| BundleError::Layer { path: path.to_owned(), source })
}

fn options(lowers: &[File], upper: &File, work: &File) -> String {
    let mut options = String::from("lowerdir=");
    for (index, lower) in lowers.iter().enumerate() {
        let separator = if index == 0 { "" } else { ":" };
        // Writing to a String can't fail.
        let _ = write!(options, "{separator}/proc/self/fd/{}", lower.as_raw_fd());
    }
    let _ = write!(
        options,
        ",upperdir=/proc/self/fd/{},workdir=/proc/self/fd/{}",
        upper.as_raw_fd(),
        work.as_raw_fd()
    );
    options
}
