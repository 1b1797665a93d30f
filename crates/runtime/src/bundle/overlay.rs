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
    io::{self, Write as _},
    os::{
        fd::AsRawFd,
        unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount as sys_mount, umount2},
    sys::statfs::{OVERLAYFS_SUPER_MAGIC, statfs},
};
use serde_json::json;

use super::{BundleError, DiscardError, Mapping};

/// Longest option text that mount(2) takes: one page, with the NUL at its end.
const OPTIONS_LEN_MAX: usize = 4095;

/// Where the rootfs of the bundle in `directory` is mounted.
pub(super) fn mount_point(directory: &Path) -> PathBuf {
    directory.join("rootfs")
}

/// A mounted rootfs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mounted {
    /// It was not there before.
    pub(super) is_new: bool,
    /// Who the workload's root is on the host, if it has a user namespace.
    pub(super) first: Option<u32>,
}

/// Mounts `layers` (bottom first) below `directory/upper` at `directory/rootfs`, if it isn't mounted already.
pub(super) fn mount(
    layers: &[PathBuf],
    directory: &Path,
    mapping: Option<Mapping<'_>>,
) -> Result<Mounted, BundleError> {
    let rootfs = mount_point(directory);
    let upper = directory.join("upper");
    // What the workload has written belongs to the ids it had then.
    let first = mapping.map(|mapping| fs::metadata(&upper).map_or(mapping.first, |upper| upper.uid()));
    if is_mounted(directory, &rootfs) {
        return Ok(Mounted { is_new: false, first });
    }
    if layers.is_empty() {
        return Err(BundleError::NoLayers);
    }
    let work = directory.join("work");
    // The mode of upper is what the workload sees as the mode of `/`.
    for (path, mode) in [(&rootfs, 0o700), (&upper, 0o755), (&work, 0o700)] {
        make_directory(path, mode).map_err(|source| BundleError::Directory { path: path.clone(), source })?;
    }
    if let (Some(mapping), Some(first)) = (mapping, first) {
        chown(&upper, Some(first), Some(first))
            .map_err(|source| BundleError::Directory { path: upper.clone(), source })?;
        return mapped(layers, directory, mapping.engine, first);
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
    Ok(Mounted { is_new: true, first: None })
}

/// Whom on the host what the workload has written belongs to.
pub(super) fn written_by(directory: &Path) -> Result<u32, BundleError> {
    let path = directory.join("upper");
    match fs::metadata(&path) {
        Ok(upper) => Ok(upper.uid()),
        Err(source) => Err(BundleError::Directory { path, source }),
    }
}

/// Has the engine mount it, with layers that are shown with the ids from `first` on.
fn mapped(layers: &[PathBuf], directory: &Path, engine: &Path, first: u32) -> Result<Mounted, BundleError> {
    let request =
        json!({ "layers": layers, "directory": directory, "first": first, "count": Mapping::COUNT });
    let mut command = Command::new(engine);
    command.env_clear().arg("overlay").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let run = command.spawn().and_then(|mut engine| {
        if let Some(mut stdin) = engine.stdin.take() {
            stdin.write_all(request.to_string().as_bytes())?;
        }
        engine.wait_with_output()
    });
    let output = run.map_err(|error| BundleError::Mapped(format!("{}: {error}", engine.display())))?;
    if output.status.success() {
        return Ok(Mounted { is_new: true, first: Some(first) });
    }
    Err(BundleError::Mapped(String::from_utf8_lossy(&output.stderr).trim_end().to_owned()))
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
