//! The vsock port of the guest, for hosts whose machine monitor offers it. It refuses nothing: who can reach it is
//! the monitor's to decide, and only the host can.

use std::{
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    sync::Arc,
    thread,
};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, VsockAddr, accept4, bind, listen, socket,
};

use crate::{link::Link, session::Machine};

/// The port of the contract.
const PORT: u32 = 9999;
/// Most conversations at once.
const CONVERSATIONS_MAX: usize = 64;

/// Serves until the machine ends. Without the device there is nothing to serve.
pub(crate) fn serve(machine: &Arc<Machine>) {
    let Some(listener) = listen_on_any() else { return };
    let running = Arc::new(());
    while let Ok(socket) = accept(&listener) {
        // One more than there are conversations: ours.
        if Arc::strong_count(&running) > CONVERSATIONS_MAX {
            continue;
        }
        let Ok(link) = Link::over_socket(socket) else { continue };
        let (machine, place) = (Arc::clone(machine), Arc::clone(&running));
        thread::spawn(move || {
            machine.converse(link);
            drop(place);
        });
    }
}

fn listen_on_any() -> Option<OwnedFd> {
    let listener = socket(AddressFamily::Vsock, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).ok()?;
    bind(listener.as_raw_fd(), &VsockAddr::new(libc::VMADDR_CID_ANY, PORT)).ok()?;
    listen(&listener, Backlog::new(16).ok()?).ok()?;
    Some(listener)
}

#[allow(unsafe_code, reason = "an accepted socket comes as a plain number")]
fn accept(listener: &OwnedFd) -> nix::Result<OwnedFd> {
    let number = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC)?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
