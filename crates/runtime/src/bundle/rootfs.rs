//! The mounted rootfs, seen from outside: reading the image's accounts and making its working directory.
//! It refuses to leave the root: the kernel resolves every path, its symbolic links included, as if the root were `/`.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
};

use hypercore_model::user::User;
use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
    sys::stat::{Mode, mkdirat},
    unistd::{Gid, Uid, fchown},
};

use super::BundleError;

/// Most bytes read of `/etc/passwd` and `/etc/group`: an image decides how long they are, the node how much it reads.
const ACCOUNTS_BYTES_MAX: u64 = 1024 * 1024;

/// An open rootfs.
#[derive(Debug)]
pub(super) struct Root(OwnedFd);

impl Root {
    /// Opens the directory at `path`, which is trusted.
    pub(super) fn open(path: &Path) -> Result<Self, BundleError> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let opened = nix::fcntl::open(path, flags, Mode::empty());
        opened
            .map(Self)
            .map_err(|errno| BundleError::Directory { path: path.to_owned(), source: errno.into() })
    }

    /// The text of `/etc/passwd` or `/etc/group`; empty if the image has none.
    pub(super) fn accounts(&self, file: &'static str) -> Result<String, BundleError> {
        self.read_bounded(file).map_err(|source| BundleError::Accounts { file, source })
    }

    fn read_bounded(&self, path: &str) -> io::Result<String> {
        // Not blocking: an image may have a FIFO there.
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let file = match self.open_inside(&self.0, Path::new(path), flags) {
            Ok(file) => File::from(file),
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(String::new()),
            Err(errno) => return Err(errno.into()),
        };
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let mut bytes = Vec::new();
        file.take(ACCOUNTS_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > ACCOUNTS_BYTES_MAX {
            return Err(io::Error::other(format!("it is longer than {ACCOUNTS_BYTES_MAX} bytes")));
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Makes the working directory if it is missing, owned by `user` then (as docker does); parents are root's.
    pub(super) fn make_workdir(&self, path: &Path, user: &User) -> Result<(), BundleError> {
        self.make_directories(path, user)
            .map_err(|errno| BundleError::Workdir { path: path.display().to_string(), source: errno.into() })
    }

    fn make_directories(&self, path: &Path, user: &User) -> nix::Result<()> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        match self.open_inside(&self.0, path, flags) {
            Err(Errno::ENOENT) => {}
            found => return found.map(drop),
        }
        let mut parent = PathBuf::from("/");
        let names: Vec<_> = path.components().filter(|part| matches!(part, Component::Normal(_))).collect();
        for (index, name) in names.iter().enumerate() {
            let child = parent.join(name);
            match self.open_inside(&self.0, &child, flags) {
                Ok(_) => {}
                Err(Errno::ENOENT) => {
                    let directory = self.open_inside(&self.0, &parent, flags)?;
                    // A dangling link fails here with EEXIST, and is reported: nothing is made behind it.
                    mkdirat(&directory, name.as_os_str(), Mode::from_bits_truncate(0o755))?;
                    if index + 1 == names.len() {
                        let made = self.open_inside(&self.0, &child, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
                        fchown(&made, Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)))?;
                    }
                }
                Err(errno) => return Err(errno),
            }
            parent = child;
        }
        Ok(())
    }

    fn open_inside(&self, root: &OwnedFd, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        openat2(root, path, how)
    }
}
