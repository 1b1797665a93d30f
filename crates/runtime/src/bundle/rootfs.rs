//! The mounted rootfs, seen from outside: reading the image's accounts, making its working directory, and finding
//! where something is to be mounted.
//! It refuses to leave the root: the kernel resolves every path, its symbolic links included, as if the root were `/`.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read},
    os::fd::{AsRawFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use hypercore_model::user::User;
use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2, readlinkat},
    sys::stat::{Mode, SFlag, fstat, mkdirat},
    unistd::{Gid, Uid, fchown},
};

use super::BundleError;

/// Most bytes read of `/etc/passwd` and `/etc/group`: an image decides how long they are, the node how much it reads.
const ACCOUNTS_BYTES_MAX: u64 = 1024 * 1024;

/// Most links that lead to one place, as the kernel's own limit (path_resolution(7)).
const LINKS_COUNT_MAX: usize = 40;

/// An open rootfs.
#[derive(Debug)]
pub(super) struct Root(OwnedFd);

/// What is at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A directory.
    Directory,
    /// Anything else that isn't a link.
    File,
}

impl Kind {
    /// As it is called in a sentence.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Directory => "a directory",
            Self::File => "a file",
        }
    }
}

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

    /// Makes the working directory if it is missing, owned by `user` then (as docker does); parents are root's. `first`
    /// is who the workload's root is here.
    pub(super) fn make_workdir(&self, path: &Path, user: &User, first: u32) -> Result<(), BundleError> {
        self.make_directories(path, user, first)
            .map_err(|errno| BundleError::Workdir { path: path.display().to_string(), source: errno.into() })
    }

    fn make_directories(&self, path: &Path, user: &User, first: u32) -> nix::Result<()> {
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
                    let is_last = index + 1 == names.len();
                    let (uid, gid) = if is_last { (user.uid, user.gid) } else { (0, 0) };
                    let made = self.open_inside(&self.0, &child, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
                    let (uid, gid) = (first.saturating_add(uid), first.saturating_add(gid));
                    fchown(&made, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
                }
                Err(errno) => return Err(errno),
            }
            parent = child;
        }
        Ok(())
    }

    /// Refuses an image that has something else than a directory (or nothing) at `place`, which is directly in `/`.
    pub(super) fn check_own_directory(&self, place: &'static str) -> Result<(), BundleError> {
        match self.look(Path::new(place)) {
            Err(Errno::ENOENT) | Ok((_, Look::Is(Kind::Directory))) => Ok(()),
            _ => Err(BundleError::NotOwnDirectory(place)),
        }
    }

    /// Where `path` is when all links are followed, those that lead nowhere too, and what is there; `None` if nothing.
    pub(super) fn locate(&self, path: &Path) -> nix::Result<(PathBuf, Option<Kind>)> {
        let mut ahead = names(path);
        let (mut place, mut kind) = (PathBuf::from("/"), Some(Kind::Directory));
        let mut links = 0;
        while let Some(name) = ahead.pop() {
            if name == ".." {
                place.pop();
                kind = Some(Kind::Directory);
                continue;
            }
            if kind == Some(Kind::File) {
                return Err(Errno::ENOTDIR);
            }
            let next = place.join(&name);
            match self.look(&next) {
                Err(Errno::ENOENT) => (place, kind) = (next, None),
                Err(errno) => return Err(errno),
                Ok((_, Look::Is(found))) => (place, kind) = (next, Some(found)),
                Ok((link, Look::Link)) => {
                    links += 1;
                    if links > LINKS_COUNT_MAX {
                        return Err(Errno::ELOOP);
                    }
                    let target = PathBuf::from(readlinkat(&link, "")?);
                    if target.is_absolute() {
                        place = PathBuf::from("/");
                    }
                    ahead.extend(names(&target));
                }
            }
        }
        Ok((place, kind))
    }

    /// A path by which this process reaches the directory at `place`, as [`Self::locate`] gave it, while the root is
    /// open; `None` if there is no directory.
    pub(super) fn directory_at(&self, place: &Path) -> Option<PathBuf> {
        let is_directory = matches!(self.look(place), Ok((_, Look::Is(Kind::Directory))));
        let below = place.strip_prefix("/").unwrap_or(place);
        is_directory.then(|| PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd())).join(below))
    }

    /// Opens what is at `place` itself, on a way without links.
    fn look(&self, place: &Path) -> nix::Result<(OwnedFd, Look)> {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let found = openat2(&self.0, place, how)?;
        let format = SFlag::from_bits_truncate(fstat(&found)?.st_mode) & SFlag::S_IFMT;
        let look = match format {
            SFlag::S_IFLNK => Look::Link,
            SFlag::S_IFDIR => Look::Is(Kind::Directory),
            _ => Look::Is(Kind::File),
        };
        Ok((found, look))
    }

    fn open_inside(&self, root: &OwnedFd, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        openat2(root, path, how)
    }
}

/// What [`Root::look`] saw.
#[derive(Debug)]
enum Look {
    Link,
    Is(Kind),
}

/// The names that make up a path, last first.
fn names(path: &Path) -> Vec<OsString> {
    let parts =
        path.components().rev().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    parts.map(|part| part.as_os_str().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn links_are_followed_inside_the_root_only_and_to_their_end() {
        let image = tempfile::tempdir().unwrap();
        for directory in ["etc", "run", "a/b"] {
            fs::create_dir_all(image.path().join(directory)).unwrap();
        }
        fs::write(image.path().join("etc/passwd"), "").unwrap();
        for (target, link) in [
            ("../run/none/stub", "etc/resolv.conf"),
            ("/../../../etc", "up"),
            ("/a/b/../..", "top"),
            ("loop", "loop"),
            ("/proc", "a/kernel"),
        ] {
            symlink(target, image.path().join(link)).unwrap();
        }
        let root = Root::open(image.path()).unwrap();
        let locate = |path: &str| {
            root.locate(Path::new(path)).map(|(place, kind)| (place.display().to_string(), kind))
        };
        let at = |place: &str, kind| Ok((place.to_owned(), kind));
        assert_eq!(locate("/etc/resolv.conf"), at("/run/none/stub", None));
        assert_eq!(locate("/up/passwd"), at("/etc/passwd", Some(Kind::File)));
        assert_eq!(locate("/top/a/b"), at("/a/b", Some(Kind::Directory)));
        assert_eq!(locate("/a/kernel/sys"), at("/proc/sys", None));
        assert_eq!(locate("/../../x"), at("/x", None));
        assert_eq!(locate("/loop/x"), Err(Errno::ELOOP));
        assert_eq!(locate("/etc/passwd/x"), Err(Errno::ENOTDIR));
        assert!(root.directory_at(Path::new("/a/b")).is_some());
        assert!(root.directory_at(Path::new("/up")).is_none());
        assert!(root.check_own_directory("/dev").is_ok());
        symlink("/etc", image.path().join("dev")).unwrap();
        assert!(root.check_own_directory("/dev").is_err());
    }
}
