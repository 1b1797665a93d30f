//! Brings the machine's disks to rest, whatever still runs: each filesystem writes all it has, marks itself clean and
//! takes no more writes. It refuses to wait for processes to let go of their files, as unmounting would.

use std::{
    fs::{self, File},
    io,
    os::fd::AsRawFd,
};

/// `FIFREEZE` (linux/fs.h): `_IOWR('X', 119, int)`.
const FIFREEZE: libc::Ioctl = 0xC004_5877_u32 as libc::Ioctl;

/// Freezes every ext4 filesystem that can be written to. Best effort: a disk that can't be frozen is as after a power
/// cut, which its journal is for.
pub(crate) fn disks() {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    for target in writable(&mounts) {
        // The second mount of a frozen filesystem says that it is frozen.
        let _ = File::open(unescape(target)).and_then(|mounted| freeze(&mounted));
    }
}

/// Where the ext4 filesystems are that can be written to, as the kernel writes it (proc_pid_mounts(5)).
fn writable(mounts: &str) -> impl Iterator<Item = &str> {
    mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (_, target, kind, options) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let is_writable = kind == "ext4" && options.split(',').any(|option| option == "rw");
        is_writable.then_some(target)
    })
}

/// Spaces, tabs, line ends and backslashes are written in octal.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[allow(unsafe_code, reason = "a filesystem is frozen by ioctl alone")]
fn freeze(mounted: &File) -> io::Result<()> {
    // SAFETY: FIFREEZE takes no argument; the descriptor is open for the length of the call.
    if unsafe { libc::ioctl(mounted.as_raw_fd(), FIFREEZE, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_disks_that_can_be_written_are_frozen() {
        let mounts = "/dev/vda /image ext4 ro,relatime 0 0\n/dev/vdb /writable ext4 rw,relatime 0 0\n\
            overlay /root overlay rw 0 0\n/dev/vdc /root/a\\040b ext4 rw 0 0\nbroken\n";
        let found: Vec<_> = writable(mounts).map(unescape).collect();
        assert_eq!(found, ["/writable", "/root/a b"]);
    }
}
