//! A root below which paths are resolved, and what is found there. It refuses to leave the root: links, `..` and races
//! included, the kernel resolves every path as if the root were `/`.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read as _},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2, readlinkat},
    sys::{
        stat::{FileStat, Mode, SFlag, fstat},
        statfs::fstatfs,
    },
};

use crate::{error::CopyError, owner::IdMap};

/// How often a resolution is tried again that a rename elsewhere disturbed (openat2(2), `EAGAIN`).
const RESOLVE_ATTEMPTS_MAX: u32 = 1000;
/// Links that are followed one after the other: as many as Linux follows.
const LINKS_MAX: u32 = 40;
/// Most bytes read of a process's cgroups.
const CGROUP_BYTES_MAX: u64 = 64 * 1024;

impl Destination {
    /// The numbers of the users of whoever the files are copied to.
    #[must_use]
    pub const fn ids(&self) -> &IdMap {
        &self.ids
    }
}

/// Where paths begin.
#[derive(Debug)]
pub struct Root {
    directory: OwnedFd,
    ids: IdMap,
}

/// What is at a path, and how the path was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stat {
    /// Something is there.
    pub exists: bool,
    /// A directory is.
    pub is_directory: bool,
    /// The last part of the path; `.` for what the path ends in itself.
    pub name: OsString,
    /// The path ends in `/.`: what is in the directory is meant, not the directory.
    pub is_contents: bool,
    /// The path ends in `/`: a directory is meant.
    pub has_slash: bool,
}

impl Stat {
    /// What somebody else found at a path, with the name that the path itself has.
    #[must_use]
    pub fn of_path(path: &Path, exists: bool, is_directory: bool) -> Self {
        Wanted::of(path).stat(exists, is_directory)
    }
}

/// Something to copy from.
#[derive(Debug)]
pub struct Source {
    pub(super) node: OwnedFd,
    pub(super) ids: IdMap,
    /// What it is.
    pub stat: Stat,
    /// The path as it was given.
    pub(super) shown: String,
}

/// Somewhere to copy to: members go below `base`, which is the path itself when that is a directory, else its parent.
#[derive(Debug)]
pub struct Destination {
    pub(super) base: OwnedFd,
    pub(super) ids: IdMap,
    /// What is there.
    pub stat: Stat,
}

impl Root {
    /// The tree below an existing directory, which is trusted.
    ///
    /// # Errors
    /// [`CopyError::Root`].
    pub fn of_directory(path: &Path) -> Result<Self, CopyError> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = open(path, flags, Mode::empty()).map_err(|errno| CopyError::Root(errno.into()))?;
        Ok(Self::of_open(directory))
    }

    /// The tree below an open directory.
    #[must_use]
    pub fn of_open(directory: OwnedFd) -> Self {
        Self { directory, ids: IdMap::identity() }
    }

    /// The same tree, whose files have these owners.
    #[must_use]
    pub fn with_ids(self, ids: IdMap) -> Self {
        Self { ids, ..self }
    }

    /// What a process sees, its mounts included. `cgroup` is a part of its cgroup's path that only it can have: pids
    /// are given anew, and this one may be another's by now.
    ///
    /// # Errors
    /// [`CopyError::Root`] when it has ended.
    pub fn of_process(pid: i32, cgroup: &str) -> Result<Self, CopyError> {
        Self::seen_by(pid, cgroup).map_err(CopyError::Root)
    }

    fn seen_by(pid: i32, cgroup: &str) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        // All that follows is of the process that this descriptor stands for, whatever becomes of its number.
        let process = open(&PathBuf::from(format!("/proc/{pid}")), flags, Mode::empty())?;
        let cgroups = openat(&process, "cgroup", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        let mut text = String::new();
        File::from(cgroups).take(CGROUP_BYTES_MAX).read_to_string(&mut text)?;
        if !text.contains(cgroup) {
            return Err(Errno::ESRCH.into());
        }
        let directory = openat(&process, "root", flags, Mode::empty())?;
        Ok(Self { directory, ids: IdMap::of_process(&process)? })
    }

    /// What to copy from. A link at the end of the path is followed when `follow` is set, or when the path says that a
    /// directory is meant.
    ///
    /// # Errors
    /// [`CopyError::NoSuchPath`], [`CopyError::NotADirectory`], [`CopyError::KernelFiles`], [`CopyError::Open`].
    pub fn source(&self, path: &Path, follow: bool) -> Result<Source, CopyError> {
        let wanted = Wanted::of(path);
        let node = self.open(&wanted.path, follow || wanted.is_directory_meant()).map_err(wanted.failed())?;
        let stat = fstat(&node).map_err(wanted.failed())?;
        let is_directory = is_kind(&stat, SFlag::S_IFDIR);
        if wanted.is_directory_meant() && !is_directory {
            return Err(CopyError::NotADirectory(wanted.shown));
        }
        if is_kernels(&node) {
            return Err(CopyError::KernelFiles(wanted.shown));
        }
        let stat = wanted.stat(true, is_directory);
        Ok(Source { node, ids: self.ids.clone(), stat, shown: wanted.shown })
    }

    /// Where to copy to. Links at the end of the path are followed; what they lead to need not exist, its directory must.
    ///
    /// # Errors
    /// [`CopyError::NoSuchPath`] names the directory that is missing; otherwise as [`Self::source`].
    pub fn destination(&self, path: &Path) -> Result<Destination, CopyError> {
        let mut wanted = Wanted::of(path);
        for _ in 0..LINKS_MAX {
            let node = match self.open(&wanted.path, false) {
                Ok(node) => Some(node),
                Err(Errno::ENOENT) => None,
                Err(errno) => return Err(wanted.failed()(errno)),
            };
            let Some(node) = node else { return self.beside(wanted, false) };
            let stat = fstat(&node).map_err(wanted.failed())?;
            if is_kernels(&node) {
                return Err(CopyError::KernelFiles(wanted.shown));
            }
            if is_kind(&stat, SFlag::S_IFDIR) {
                return Ok(Destination { base: node, ids: self.ids.clone(), stat: wanted.stat(true, true) });
            }
            if !is_kind(&stat, SFlag::S_IFLNK) {
                return self.beside(wanted, true);
            }
            let target = readlinkat(&node, "").map_err(wanted.failed())?;
            // An absolute target replaces the whole path.
            wanted.path = wanted.parent().join(target);
        }
        Err(wanted.failed()(Errno::ELOOP))
    }

    /// A place in an existing directory, where a file is or nothing.
    fn beside(&self, wanted: Wanted, exists: bool) -> Result<Destination, CopyError> {
        if exists && wanted.is_directory_meant() {
            return Err(CopyError::NotADirectory(wanted.shown));
        }
        if wanted.is_contents {
            return Err(CopyError::NoSuchPath(wanted.shown));
        }
        let parent = wanted.parent().to_owned();
        let shown = parent.display().to_string();
        let base = self.open(&parent, true).map_err(Wanted::failure(shown.clone()))?;
        if !is_kind(&fstat(&base).map_err(Wanted::failure(shown.clone()))?, SFlag::S_IFDIR) {
            return Err(CopyError::NotADirectory(shown));
        }
        let mut stat = wanted.stat(exists, false);
        // Links may have led to another name than the one that was given.
        if let Some(name) = wanted.path.file_name() {
            stat.name = name.to_owned();
        }
        Ok(Destination { base, ids: self.ids.clone(), stat })
    }

    fn open(&self, path: &Path, follow: bool) -> nix::Result<OwnedFd> {
        let last = if follow { OFlag::empty() } else { OFlag::O_NOFOLLOW };
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC | last)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        resolve(&self.directory, path.as_os_str().as_bytes(), how)
    }
}

/// `openat2`, tried again when a rename elsewhere on the machine disturbed it.
pub(super) fn resolve(directory: &OwnedFd, path: &[u8], how: OpenHow) -> nix::Result<OwnedFd> {
    for _ in 1..RESOLVE_ATTEMPTS_MAX {
        match openat2(directory, path, how) {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            resolved => return resolved,
        }
    }
    openat2(directory, path, how)
}

/// Whether the attributes are those of something of this kind.
pub(super) fn is_kind(stat: &FileStat, kind: SFlag) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == kind
}

/// Whether something is on a file system that the kernel makes up: its sizes are no sizes, and reading it may act.
pub(super) fn is_kernels(node: impl AsFd) -> bool {
    const MADE_UP: [i64; 8] = [
        libc::PROC_SUPER_MAGIC,
        libc::SYSFS_MAGIC,
        libc::CGROUP_SUPER_MAGIC,
        libc::CGROUP2_SUPER_MAGIC,
        libc::DEBUGFS_MAGIC,
        libc::TRACEFS_MAGIC,
        libc::SECURITYFS_MAGIC,
        libc::BPF_FS_MAGIC,
    ];
    // One that can't be asked is no reason to refuse: what fails then says so itself.
    fstatfs(node).is_ok_and(|stat| MADE_UP.contains(&stat.filesystem_type().0))
}

/// A path as a caller wrote it.
#[derive(Debug)]
struct Wanted {
    /// Absolute, without what follows its last name.
    path: PathBuf,
    shown: String,
    is_contents: bool,
    has_slash: bool,
}

impl Wanted {
    fn of(path: &Path) -> Self {
        let mut bytes = path.as_os_str().as_bytes();
        let is_contents = bytes == b"." || bytes.ends_with(b"/.");
        let has_slash = bytes.ends_with(b"/");
        while let Some(shorter) = bytes.strip_suffix(b"/").or_else(|| bytes.strip_suffix(b"/.")) {
            bytes = shorter;
        }
        // A path without its slash begins at the root too, as with docker.
        let path = Path::new("/").join(OsStr::from_bytes(bytes));
        Self { path, shown: shown(path_of(bytes)), is_contents, has_slash }
    }

    const fn is_directory_meant(&self) -> bool {
        self.is_contents || self.has_slash
    }

    fn parent(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    fn stat(&self, exists: bool, is_directory: bool) -> Stat {
        // The root, and what ends in `..`, have no name of their own.
        let name = self.path.file_name().filter(|_| !self.is_contents).unwrap_or(OsStr::new(".")).to_owned();
        let is_contents = name == ".";
        Stat { exists, is_directory, name, is_contents, has_slash: self.has_slash }
    }

    fn failed(&self) -> impl Fn(Errno) -> CopyError + use<> {
        Self::failure(self.shown.clone())
    }

    fn failure(path: String) -> impl Fn(Errno) -> CopyError {
        move |errno| match errno {
            Errno::ENOENT => CopyError::NoSuchPath(path.clone()),
            Errno::ENOTDIR => CopyError::NotADirectory(
                Path::new(&path).parent().map_or_else(|| path.clone(), |parent| parent.display().to_string()),
            ),
            errno => CopyError::Open { path: path.clone(), source: errno.into() },
        }
    }
}

fn path_of(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(if bytes.is_empty() { b"/" } else { bytes }))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
