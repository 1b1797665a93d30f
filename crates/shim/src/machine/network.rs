//! The machine's end of its network: a TAP device that the runtime made on the host. The monitor itself runs in a
//! network namespace that has nothing in it: who breaks out of a machine into its monitor is still nowhere.
//! A monitor that opens the device by its name has to stay on the host's network; there its user may open that device.
//! It refuses to configure anything: the link, its addresses and what it may reach are the runtime's.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use hypercore_model::machine::MachineNetwork;
use nix::{
    libc,
    sched::{CloneFlags, setns},
};

/// `_IOW('T', 204, int)` of linux/if_tun.h.
const TUNSETOWNER: libc::c_ulong = 0x4004_54CC;

/// The argument of `TUNSETIFF` (linux/if.h, `struct ifreq`).
#[repr(C)]
struct Request {
    name: [libc::c_char; libc::IFNAMSIZ],
    flags: libc::c_short,
    padding: [u8; 22],
}

/// Opens the device, and then leaves the host's network for good.
pub(super) fn enter(given: &MachineNetwork) -> io::Result<OwnedFd> {
    let device = open(given)?;
    setns(File::open(&given.netns)?, CloneFlags::CLONE_NEWNET)?;
    Ok(device)
}

/// Lets a user, and nobody else but root, open the device by its name.
#[allow(unsafe_code, reason = "a TAP device is given away by ioctl alone")]
pub(super) fn give(given: &MachineNetwork, owner: u32) -> io::Result<()> {
    let device = open(given)?;
    // SAFETY: TUNSETOWNER takes a plain number.
    if unsafe { libc::ioctl(device.as_raw_fd(), TUNSETOWNER, libc::c_ulong::from(owner)) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[allow(unsafe_code, reason = "a TAP device is opened by ioctl alone")]
fn open(given: &MachineNetwork) -> io::Result<OwnedFd> {
    let device = File::options().read(true).write(true).open("/dev/net/tun")?;
    let mut name = [0; libc::IFNAMSIZ];
    for (slot, byte) in name.iter_mut().zip(given.tap.bytes().take(libc::IFNAMSIZ - 1)) {
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
