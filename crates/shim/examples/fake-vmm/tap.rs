//! TAP devices, opened by their names as the user that the fake has become.

use std::{fs::File, io, os::fd::AsRawFd};

use nix::libc;

/// The argument of `TUNSETIFF` (linux/if.h, `struct ifreq`).
#[repr(C)]
struct Request {
    name: [libc::c_char; libc::IFNAMSIZ],
    flags: libc::c_short,
    padding: [u8; 22],
}

/// Opens one; it is taken until this is closed.
#[allow(unsafe_code, reason = "a TAP device is opened by ioctl alone")]
pub(crate) fn open(tap: &str) -> io::Result<File> {
    let device = File::options().read(true).write(true).open("/dev/net/tun")?;
    let mut name = [0; libc::IFNAMSIZ];
    for (slot, byte) in name.iter_mut().zip(tap.bytes().take(libc::IFNAMSIZ - 1)) {
        *slot = byte as libc::c_char;
    }
    let flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
    let request = Request { name, flags, padding: [0; 22] };
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which has this size and is ours.
    if unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw const request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(device)
}
