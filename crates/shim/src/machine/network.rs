//! The machine's end of its network: a TAP device that the runtime made in the workload's network namespace.
//! It refuses to configure anything: the link, its addresses and what it may reach are the runtime's.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
};

use nix::{
    libc,
    sched::{CloneFlags, setns},
};

/// The name of the device in every workload's namespace.
const TAP: &str = "tap0";

/// The argument of `TUNSETIFF` (linux/if.h, `struct ifreq`).
#[repr(C)]
struct Request {
    name: [libc::c_char; libc::IFNAMSIZ],
    flags: libc::c_short,
    padding: [u8; 22],
}

/// Enters the namespace, in which the machine then runs, and opens its device.
#[allow(unsafe_code, reason = "a TAP device is opened by ioctl alone")]
pub(super) fn enter(netns: &Path) -> io::Result<OwnedFd> {
    setns(File::open(netns)?, CloneFlags::CLONE_NEWNET)?;
    let device = File::options().read(true).write(true).open("/dev/net/tun")?;
    let mut name = [0; libc::IFNAMSIZ];
    for (slot, byte) in name.iter_mut().zip(TAP.bytes()) {
        *slot = byte as libc::c_char;
    }
    let flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
    let request = Request { name, flags, padding: [0; 22] };
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which has this size and is ours.
    if unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw const request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(device.into())
}
