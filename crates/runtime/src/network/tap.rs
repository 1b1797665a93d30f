//! TAP devices: the host's end of a microVM's link. One is made before its machine is, and outlives it until it is
//! removed like any link. It refuses to configure it: `veth.rs` does, as for a container's.

use std::{fs::File, io, os::fd::AsRawFd};

use nix::libc;

/// The argument of `TUNSETIFF` (linux/if.h, `struct ifreq`).
#[repr(C)]
struct Request {
    name: [libc::c_char; libc::IFNAMSIZ],
    flags: libc::c_short,
    padding: [u8; 22],
}

/// Makes the device in the calling thread's network namespace. One of this name that is there is taken.
#[allow(unsafe_code, reason = "a TAP device is made by ioctl alone")]
pub(super) fn create(name: &str) -> io::Result<()> {
    let device = File::options().read(true).write(true).open("/dev/net/tun")?;
    let mut request = Request {
        name: [0; libc::IFNAMSIZ],
        flags: (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short,
        padding: [0; 22],
    };
    for (slot, byte) in request.name.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
        *slot = byte as libc::c_char;
    }
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which has this size and is ours.
    check(unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
    // SAFETY: TUNSETPERSIST takes a plain number.
    check(unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETPERSIST, 1) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
