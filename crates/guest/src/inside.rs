//! Paths of the image, as the image means them: a symbolic link in it, absolute or not, never leads out of the
//! workload's root into the agent's. It refuses to follow what `openat2(RESOLVE_IN_ROOT)` doesn't.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::AsFd,
    path::Path,
};

use nix::{
    dir::Dir,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
    sys::stat::{Mode, mkdirat},
    unistd::{UnlinkatFlags, unlinkat},
};

use crate::root::ROOT;

/// Longest account file that is read, in bytes.
const TEXT_LEN_MAX: u64 = 4 * 1024 * 1024;

/// Opens a path of the image.
pub(crate) fn open(path: &str, flags: OFlag) -> io::Result<File> {
    let root = Dir::open(ROOT, OFlag::O_DIRECTORY | OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT);
    Ok(openat2(root.as_fd(), path.trim_start_matches('/'), how)?.into())
}

/// The text of a file of the image; empty when there is none.
pub(crate) fn read(path: &str) -> String {
    let mut bytes = Vec::new();
    // A FIFO must not hold us up.
    let read = open(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK).and_then(|file| {
        if file.metadata()?.is_file() { file.take(TEXT_LEN_MAX).read_to_end(&mut bytes) } else { Ok(0) }
    });
    if read.is_ok() { String::from_utf8_lossy(&bytes).into_owned() } else { String::new() }
}

/// Puts a file in the place of whatever the image has there.
pub(crate) fn replace(path: &str, text: &str) -> io::Result<()> {
    let path = Path::new(path);
    let parent = path.parent().and_then(Path::to_str).unwrap_or("/");
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    make_directories(parent)?;
    let directory = open(parent, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
    // It may not be there, or be a directory: creating the file says so.
    let _ = unlinkat(&directory, name, UnlinkatFlags::NoRemoveDir);
    let how = OpenHow::new()
        .flags(OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC)
        .mode(Mode::from_bits_truncate(0o644))
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    File::from(openat2(&directory, name, how)?).write_all(text.as_bytes())
}

/// Makes a directory of the image and those above it, where they are missing.
pub(crate) fn make_directories(path: &str) -> io::Result<()> {
    let mut made = String::new();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        let above = open(if made.is_empty() { "." } else { &made }, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        match mkdirat(&above, part, Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
            Err(error) => return Err(error.into()),
        }
        made.push_str(part);
        made.push('/');
    }
    Ok(())
}
