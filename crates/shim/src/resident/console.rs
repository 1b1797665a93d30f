//! Receiving the master of a terminal, which the engine sends over a Unix socket (runc's console socket protocol: one
//! message with one descriptor). It refuses to block: the connection comes early, the descriptor much later.

use std::{
    io::{self, IoSliceMut},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
};

use nix::{
    cmsg_space,
    errno::Errno,
    sys::socket::{ControlMessageOwned, MsgFlags, recvmsg},
};

use super::listener::Listener;

/// A terminal that is expected.
#[derive(Debug)]
pub(super) struct Console {
    listener: Listener,
    sender: Option<UnixStream>,
}

impl Console {
    /// Expects a terminal at `path`.
    pub(super) fn listen(path: &Path) -> io::Result<Self> {
        Ok(Self { listener: Listener::bind(path)?, sender: None })
    }

    /// Where the engine connects to.
    pub(super) fn path(&self) -> &Path {
        self.listener.path()
    }

    /// The master, once it came.
    pub(super) fn receive(&mut self) -> io::Result<Option<OwnedFd>> {
        if self.sender.is_none() {
            self.sender = self.listener.accept()?;
        }
        let Some(sender) = &self.sender else { return Ok(None) };
        let mut byte = [0u8; 64];
        let mut data = [IoSliceMut::new(&mut byte)];
        let mut control = cmsg_space!([i32; 1]);
        let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
        match recvmsg::<()>(sender.as_raw_fd(), &mut data, Some(&mut control), flags) {
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
            Err(error) => Err(error.into()),
            Ok(message) => match first_descriptor(message.cmsgs()?) {
                Some(master) => Ok(Some(master)),
                None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the engine sent no terminal")),
            },
        }
    }
}

impl AsFd for Console {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.sender {
            Some(sender) => sender.as_fd(),
            None => self.listener.as_fd(),
        }
    }
}

#[allow(unsafe_code, reason = "the kernel hands received descriptors over as plain numbers")]
fn first_descriptor(messages: impl Iterator<Item = ControlMessageOwned>) -> Option<OwnedFd> {
    let mut received = messages.filter_map(|message| match message {
        ControlMessageOwned::ScmRights(numbers) => Some(numbers),
        _ => None,
    });
    // SAFETY: the kernel has just installed this descriptor for us, and nobody else in this process knows it. There is
    // room for one only, so none is dropped here.
    received.next()?.first().map(|number| unsafe { OwnedFd::from_raw_fd(*number) })
}
