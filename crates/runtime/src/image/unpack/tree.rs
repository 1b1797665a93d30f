//! A directory that a layer is unpacked into, and the only way to touch it.
//!
//! Every path is resolved by `openat2` with `RESOLVE_IN_ROOT`: symbolic links that the layer itself made are followed
//! as a process inside the image would follow them, and never out of the root. What is created, replaced or linked is
//! then named by its directory's descriptor and one name that is never followed. It refuses nothing by policy.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
    rc::Rc,
};

use hypercore_copy::path::{DEPTH_MAX, MemberPath};
use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat, openat2},
    sys::{
        stat::{FileStat, Mode, SFlag, UtimensatFlags, fchmodat, fstatat, mkdirat, mknodat, utimensat},
        time::TimeSpec,
    },
    unistd::{Gid, Uid, UnlinkatFlags, fchownat, linkat, symlinkat, syncfs, unlinkat},
};

/// How often a resolution is tried again that a rename elsewhere on the machine disturbed (openat2(2), `EAGAIN`).
const RESOLVE_ATTEMPTS_MAX: u32 = 1000;
/// Permissions of directories that a layer uses but doesn't list.
const IMPLIED_DIRECTORY_MODE: Mode = Mode::from_bits_truncate(0o755);

/// What overlayfs takes for "this directory hides everything below it" (kernel, overlayfs.rst, "whiteouts").
const OPAQUE_XATTR: &str = "trusted.overlay.opaque";

/// Where a member goes: an open directory, and the one name in it.
#[derive(Debug, Clone)]
pub(super) struct Place {
    directory: Rc<OwnedFd>,
    name: OsString,
}

/// The directory of one layer. Nobody else may write below it meanwhile.
#[derive(Debug)]
pub(super) struct Tree {
    root: Rc<OwnedFd>,
    /// Components of the root's own path.
    root_depth: usize,
    /// The directory that was resolved last: tar files list members directory by directory.
    last: Option<(Vec<u8>, Rc<OwnedFd>)>,
}

impl Tree {
    /// Opens an existing directory.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let root = open(path, flags, Mode::empty())?;
        let root_depth = real_depth(&root)?;
        Ok(Self { root: Rc::new(root), root_depth, last: None })
    }

    /// The directory of that path below the root, made with all its parents where it is missing.
    pub(super) fn directory(&mut self, path: &[u8]) -> io::Result<Rc<OwnedFd>> {
        if path.is_empty() {
            return Ok(Rc::clone(&self.root));
        }
        if let Some((last, directory)) = &self.last
            && last == path
        {
            return Ok(Rc::clone(directory));
        }
        let directory = match self.resolve(path) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => self.make_directories(path)?,
            resolved => Rc::new(resolved?),
        };
        // Links can lead deeper than names can: what is here must stay removable, and removing recurses.
        if real_depth(&directory)?.saturating_sub(self.root_depth) > DEPTH_MAX {
            return Err(Errno::ENAMETOOLONG.into());
        }
        self.last = Some((path.to_vec(), Rc::clone(&directory)));
        Ok(directory)
    }

    /// Where a member goes; its parents are made where they are missing. The root itself is `.` in the root.
    pub(super) fn place(&mut self, path: &MemberPath) -> io::Result<Place> {
        let (directory, name) = path.split().unwrap_or((b"", b"."));
        Ok(Place { directory: self.directory(directory)?, name: OsStr::from_bytes(name).to_owned() })
    }

    /// Where a member is that should exist; nothing is made.
    pub(super) fn find(&self, path: &MemberPath) -> io::Result<Place> {
        let (directory, name) = path.split().unwrap_or((b"", b"."));
        let directory =
            if directory.is_empty() { Rc::clone(&self.root) } else { Rc::new(self.resolve(directory)?) };
        Ok(Place { directory, name: OsStr::from_bytes(name).to_owned() })
    }

    /// Removes what is at a place, with everything below it. Never to be called for the root.
    pub(super) fn clear(&mut self, place: &Place) -> io::Result<()> {
        // What was resolved last may be below the place, or have led through it.
        self.last = None;
        if place.stat()?.is_some_and(|stat| is_kind(&stat, SFlag::S_IFDIR)) {
            return fs::remove_dir_all(place.proc_path());
        }
        Ok(unlinkat(&place.directory, place.name.as_os_str(), UnlinkatFlags::NoRemoveDir)?)
    }

    /// Hides everything that lower layers have in this directory.
    pub(super) fn make_opaque(directory: &OwnedFd) -> io::Result<()> {
        xattr::set_deref(format!("/proc/self/fd/{}", directory.as_raw_fd()), OPAQUE_XATTR, b"y")
    }

    /// Writes everything to the disk. It takes the whole file system along, which is cheaper than file by file.
    pub(super) fn sync(path: &Path) -> io::Result<()> {
        Ok(syncfs(File::open(path)?)?)
    }

    fn resolve(&self, path: &[u8]) -> nix::Result<OwnedFd> {
        let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC).resolve(
            ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS | ResolveFlag::RESOLVE_NO_XDEV,
        );
        for _ in 1..RESOLVE_ATTEMPTS_MAX {
            match openat2(&self.root, path, how) {
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                resolved => return resolved,
            }
        }
        openat2(&self.root, path, how)
    }

    /// Walks down and makes what is missing. A whiteout on the way turns into an opaque directory: the layer removed
    /// what was there and began anew.
    fn make_directories(&mut self, path: &[u8]) -> io::Result<Rc<OwnedFd>> {
        let mut current = Rc::clone(&self.root);
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at).chain([path.len()]);
        let mut start = 0;
        for end in ends {
            let name = OsStr::from_bytes(&path[start..end]).to_owned();
            start = end + 1;
            current = match self.resolve(&path[..end]) {
                Err(Errno::ENOENT | Errno::ENOTDIR) => {
                    let place = Place { directory: current, name };
                    self.make_directory(&place)?;
                    Rc::new(self.resolve(&path[..end])?)
                }
                resolved => Rc::new(resolved?),
            };
        }
        Ok(current)
    }

    /// Makes a directory where there is nothing or a whiteout; one that is there stays.
    pub(super) fn make_directory(&mut self, place: &Place) -> io::Result<()> {
        let make = || mkdirat(&place.directory, place.name.as_os_str(), IMPLIED_DIRECTORY_MODE);
        let stat = match make() {
            Ok(()) => return place.set_mode(IMPLIED_DIRECTORY_MODE),
            Err(Errno::EEXIST) => place.stat()?,
            Err(error) => return Err(error.into()),
        };
        match stat {
            Some(stat) if is_kind(&stat, SFlag::S_IFDIR) => Ok(()),
            Some(stat) if is_whiteout(&stat) => {
                self.clear(place)?;
                make()?;
                place.set_mode(IMPLIED_DIRECTORY_MODE)?;
                place.set_xattr(OsStr::new(OPAQUE_XATTR), b"y")
            }
            _ => Err(Errno::ENOTDIR.into()),
        }
    }
}

impl Place {
    /// Its attributes, links not followed; `None` when nothing is there.
    pub(super) fn stat(&self) -> io::Result<Option<FileStat>> {
        match fstatat(&self.directory, self.name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes an empty file and opens it for writing.
    pub(super) fn create_file(&self) -> io::Result<File> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(File::from(openat(&self.directory, self.name.as_os_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)?))
    }

    /// Makes a symbolic link with that content.
    pub(super) fn create_symlink(&self, target: &[u8]) -> io::Result<()> {
        Ok(symlinkat(target, &self.directory, self.name.as_os_str())?)
    }

    /// Makes one more name for what is at `target`, links not followed.
    pub(super) fn create_hardlink(&self, target: &Self) -> io::Result<()> {
        let (from, to) = (target.name.as_os_str(), self.name.as_os_str());
        Ok(linkat(&target.directory, from, &self.directory, to, AtFlags::empty())?)
    }

    /// Makes a device or named pipe, without permissions yet.
    pub(super) fn create_node(&self, kind: SFlag, device: libc::dev_t) -> io::Result<()> {
        Ok(mknodat(&self.directory, self.name.as_os_str(), kind, Mode::empty(), device)?)
    }

    /// Sets the owner, links not followed. It clears set-uid bits: set the mode after it.
    pub(super) fn set_owner(&self, uid: u32, gid: u32) -> io::Result<()> {
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        Ok(fchownat(&self.directory, self.name.as_os_str(), uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)?)
    }

    /// Sets the permission bits of anything but a symbolic link, which has none.
    pub(super) fn set_mode(&self, mode: Mode) -> io::Result<()> {
        let follow = nix::sys::stat::FchmodatFlags::FollowSymlink;
        Ok(fchmodat(&self.directory, self.name.as_os_str(), mode, follow)?)
    }

    /// Sets the modification time, links not followed.
    pub(super) fn set_mtime(&self, mtime: TimeSpec) -> io::Result<()> {
        let name = self.name.as_os_str();
        Ok(utimensat(&self.directory, name, &mtime, &mtime, UtimensatFlags::NoFollowSymlink)?)
    }

    /// Sets one extended attribute, links not followed.
    pub(super) fn set_xattr(&self, name: &OsStr, value: &[u8]) -> io::Result<()> {
        xattr::set(self.proc_path(), name, value)
    }

    /// The place as a path whose every component but the last is the kernel's.
    fn proc_path(&self) -> PathBuf {
        let mut path = format!("/proc/self/fd/{}/", self.directory.as_raw_fd()).into_bytes();
        path.extend_from_slice(self.name.as_bytes());
        PathBuf::from(OsString::from_vec(path))
    }
}

/// Components of the path that the kernel knows for a directory.
fn real_depth(directory: &OwnedFd) -> io::Result<usize> {
    let path = fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd()))?;
    Ok(path.components().count())
}

/// Whether the attributes are those of a file of this kind.
pub(super) fn is_kind(stat: &FileStat, kind: SFlag) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == kind
}

/// Whether this is what overlayfs takes for "nothing is here": a character device 0:0.
pub(super) fn is_whiteout(stat: &FileStat) -> bool {
    is_kind(stat, SFlag::S_IFCHR) && stat.st_rdev == 0
}
