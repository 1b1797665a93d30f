//! `/etc/passwd` and `/etc/group` of a running container, for the user of an exec.
//! It refuses to leave the container's root whatever links are there, and files without an end.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::OwnedFd,
    path::PathBuf,
};

use hypercore_model::user::User;
use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    sys::stat::Mode,
};

use super::engine_failure;
use crate::report::{Failure, FailureCode};

/// Most bytes read of each file.
const BYTES_MAX: u64 = 1024 * 1024;

/// Looks `request` (`name|uid[:group|gid]`) up in the root of the process `pid`.
pub(super) fn lookup(pid: i32, request: &str) -> Result<User, Failure> {
    let path = PathBuf::from(format!("/proc/{pid}/root"));
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open(&path, flags, Mode::empty())
        .map_err(|error| engine_failure("the container's root can't be opened", &error))?;
    let text = |file: &str| {
        read(&root, file).map_err(|error| engine_failure(&format!("{file} can't be read"), &error))
    };
    User::lookup(request, &text("/etc/passwd")?, &text("/etc/group")?)
        .map_err(|error| Failure { code: FailureCode::NoSuchUser, message: error.to_string() })
}

/// The text of `file` below `root`; empty if there is none.
fn read(root: &OwnedFd, file: &str) -> io::Result<String> {
    let how = OpenHow::new()
        // Not blocking: it may be a FIFO.
        .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file = match openat2(root, file, how) {
        Ok(file) => File::from(file),
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(String::new()),
        Err(errno) => return Err(errno.into()),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(io::Error::other(format!("it is longer than {BYTES_MAX} bytes")));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
