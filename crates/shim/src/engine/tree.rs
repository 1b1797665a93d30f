//! Mount trees that are attached nowhere yet: taken from what is mounted, changed while nobody sees them, then attached.
//! It refuses to change what they were taken from.

#![allow(unsafe_code, reason = "open_tree, mount_setattr and move_mount have no safe wrappers")]

use std::{
    ffi::{CString, c_char, c_uint},
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, FromRawFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use nix::libc;

/// Take the source of a move by its descriptor alone (linux/mount.h).
const MOVE_MOUNT_F_EMPTY_PATH: c_uint = 0x4;

/// A detached mount with all that is mounted below it. It is gone when dropped, unless it was attached.
#[derive(Debug)]
pub(super) struct Tree(File);

impl Tree {
    /// A copy of what is mounted at `path`, below it too.
    pub(super) fn copy(path: &Path) -> io::Result<Self> {
        let path = c_path(path)?;
        let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_RECURSIVE as c_uint;
        // SAFETY: the path lives through the call.
        let opened = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
        let fd = i32::try_from(opened).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
        // SAFETY: the kernel has just opened it for us alone.
        Ok(Self(unsafe { File::from_raw_fd(fd) }))
    }

    /// Lets nobody write to it, gain rights by it or open devices through it.
    pub(super) fn freeze(&self) -> io::Result<()> {
        let set = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
        self.change(set, 0)
    }

    /// Shows the ids that its files have as ids of `user_namespace`.
    pub(super) fn map_ids(&self, user_namespace: &impl AsFd) -> io::Result<()> {
        let fd = user_namespace.as_fd().as_raw_fd();
        self.change(libc::MOUNT_ATTR_IDMAP, fd as u64)
    }

    /// Attaches it at `path`.
    pub(super) fn attach(self, path: &Path) -> io::Result<()> {
        let path = c_path(path)?;
        // SAFETY: both paths live through the call.
        let moved = unsafe {
            libc::syscall(
                libc::SYS_move_mount,
                self.0.as_raw_fd(),
                c"".as_ptr(),
                libc::AT_FDCWD,
                path.as_ptr(),
                MOVE_MOUNT_F_EMPTY_PATH,
            )
        };
        if moved < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Whether its root is a directory.
    pub(super) fn is_directory(&self) -> io::Result<bool> {
        Ok(self.0.metadata()?.is_dir())
    }

    fn change(&self, set: u64, userns_fd: u64) -> io::Result<()> {
        let mut attributes = libc::mount_attr { attr_set: set, attr_clr: 0, propagation: 0, userns_fd };
        let empty: *const c_char = c"".as_ptr();
        let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
        // SAFETY: the path and the attributes live through the call, and these are as long as it is told.
        let changed = unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                self.0.as_raw_fd(),
                empty,
                flags,
                &raw mut attributes,
                size_of::<libc::mount_attr>(),
            )
        };
        if changed < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl AsRawFd for Tree {
    fn as_raw_fd(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}
