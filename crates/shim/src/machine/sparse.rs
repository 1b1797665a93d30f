//! Copies of files that are mostly holes: a machine's memory, a machine's disk. What is no data, and what is nothing but
//! zeros, takes no room in the copy. It refuses to write over anything.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, OpenOptionsExt},
    },
    path::Path,
};

use nix::{
    errno::Errno,
    libc,
    unistd::{Whence, lseek},
};

/// Bytes copied at once, and that are left out when they are all zero.
const BLOCK_LEN: usize = 64 * 1024;
/// `_IOW(0x94, 9, int)` of linux/fs.h.
const FICLONE: libc::c_ulong = 0x4004_9409;

/// Copies the whole of `from` into a new file. Where the filesystem can share the bytes of both, nothing is copied.
///
/// # Errors
/// The first of the kernel's; the new file may be there then.
pub(super) fn copy(from: &File, to: &Path) -> io::Result<()> {
    let len = from.metadata()?.len();
    let to = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(to)?;
    if clone(from, &to) {
        return Ok(());
    }
    to.set_len(len)?;
    let (mut buffer, zeros) = (vec![0; BLOCK_LEN], vec![0; BLOCK_LEN]);
    let mut at = 0;
    while let Some((begin, end)) = next_data(from, at, len)? {
        at = begin;
        while at < end {
            let wanted = usize::try_from(end - at).unwrap_or(BLOCK_LEN).min(BLOCK_LEN);
            let read = from.read_at(&mut buffer[..wanted], at)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if buffer[..read] != zeros[..read] {
                to.write_all_at(&buffer[..read], at)?;
            }
            at += read as u64;
        }
    }
    Ok(())
}

#[allow(unsafe_code, reason = "files share their bytes by ioctl alone")]
fn clone(from: &File, to: &File) -> bool {
    // SAFETY: FICLONE takes a descriptor by value.
    unsafe { libc::ioctl(to.as_raw_fd(), FICLONE as _, from.as_raw_fd()) == 0 }
}

/// The next stretch of data at or after `at`; `None` when there is none.
fn next_data(file: &File, at: u64, len: u64) -> io::Result<Option<(u64, u64)>> {
    let seek = |at: u64, whence| {
        let at = i64::try_from(at).map_err(io::Error::other)?;
        Ok::<_, io::Error>(match lseek(file, at, whence) {
            Ok(found) => Some(u64::try_from(found).map_err(io::Error::other)?.min(len)),
            Err(Errno::ENXIO) => None,
            Err(error) => return Err(error.into()),
        })
    };
    let Some(begin) = seek(at, Whence::SeekData)?.filter(|begin| *begin < len) else { return Ok(None) };
    Ok(Some((begin, seek(begin, Whence::SeekHole)?.unwrap_or(len))))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt};

    use super::*;

    #[test]
    fn holes_and_zeros_take_no_room_in_the_copy() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&from).unwrap();
        file.set_len(64 << 20).unwrap();
        file.write_all_at(b"begin", 0).unwrap();
        file.write_all_at(&vec![0; 4 << 20], 8 << 20).unwrap();
        file.write_all_at(b"end", (32 << 20) - 1).unwrap();
        copy(&file, &to).unwrap();
        assert!(fs::read(&from).unwrap() == fs::read(&to).unwrap(), "the copy differs");
        assert!(fs::metadata(&to).unwrap().blocks() * 512 < 1 << 20);
        let again = copy(&file, &to).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    }
}
