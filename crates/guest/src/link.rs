//! One connection to the host: whole messages in, whole messages out, from any thread. It refuses to interpret them.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hypercore_wire::{
    Decoder, ErrorCode, Flags, Frame, Message, StreamId, frame::FrameError, message::Fault,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Bytes read at once.
const READ_LEN_MAX: usize = 16 * 1024;

/// The writing end, which many threads hold. When the conversation is over there is none: a port can be opened once.
#[derive(Debug, Clone)]
pub(crate) struct Sender(Arc<Mutex<Option<File>>>);

/// A connection. Its reading end belongs to one thread.
#[derive(Debug)]
pub(crate) struct Link {
    reader: File,
    decoder: Decoder,
    sender: Sender,
    /// A port has no connections: that the host is gone is a hang-up, and it may come back.
    is_port: bool,
}

/// Why nothing more comes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Gone {
    /// The host closed it, or it broke.
    #[error("the connection is closed")]
    Closed,
    /// What came is no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

impl Link {
    /// A connection over the virtio-serial port. Waits until the host has opened its end.
    pub(crate) fn over_port(port: File) -> io::Result<Self> {
        let link = Self::over(port.into(), true)?;
        link.wait_for_host()?;
        Ok(link)
    }

    /// A connection that was accepted.
    pub(crate) fn over_socket(socket: OwnedFd) -> io::Result<Self> {
        Self::over(socket, false)
    }

    fn over(fd: OwnedFd, is_port: bool) -> io::Result<Self> {
        let reader = File::from(fd);
        let sender = Sender(Arc::new(Mutex::new(Some(reader.try_clone()?))));
        Ok(Self { reader, decoder: Decoder::new(), sender, is_port })
    }

    /// While the host's end of a port is closed, reading it says end of file at once; so we wait for a byte.
    fn wait_for_host(&self) -> io::Result<()> {
        loop {
            let mut fds = [PollFd::new(self.reader.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::NONE)?;
            let ready = fds[0].revents().unwrap_or(PollFlags::empty());
            if ready.contains(PollFlags::POLLIN) {
                return Ok(());
            }
            // A closed port hangs up without pause.
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    /// The writing end.
    pub(crate) fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// The first byte, without taking it from what comes next.
    pub(crate) fn first_byte(&mut self) -> Result<u8, Gone> {
        let mut byte = [0];
        match self.reader.read(&mut byte) {
            Ok(1) => {
                self.decoder.push(&byte);
                Ok(byte[0])
            }
            _ => Err(Gone::Closed),
        }
    }

    /// The connection itself, for who speaks something else over it.
    pub(crate) fn into_file(self) -> File {
        self.reader
    }

    /// Waits for the next frame.
    pub(crate) fn next_frame(&mut self) -> Result<Frame, Gone> {
        let mut buffer = [0; READ_LEN_MAX];
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(frame);
            }
            match self.reader.read(&mut buffer) {
                Ok(0) => return Err(Gone::Closed),
                Ok(len) => self.decoder.push(&buffer[..len]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Gone::Closed),
            }
        }
    }

    /// Reads on, without keeping anything, until the host closes its end: after bytes that were no frame, nobody knows
    /// where the next one begins. A socket is simply closed.
    pub(crate) fn drain(mut self) {
        let mut buffer = [0; READ_LEN_MAX];
        while self.is_port && self.reader.read(&mut buffer).is_ok_and(|len| len > 0) {}
    }
}

impl Sender {
    /// Sends a message. `false` when the host no longer takes any.
    pub(crate) fn send(&self, stream: StreamId, flags: Flags, message: impl Into<Message>) -> bool {
        let mut bytes = Vec::with_capacity(64);
        if message.into().encode_to(stream, flags, &mut bytes).is_err() {
            return false;
        }
        self.lock().as_mut().is_some_and(|file| file.write_all(&bytes).is_ok())
    }

    /// Hangs up.
    pub(crate) fn close(&self) {
        *self.lock() = None;
    }

    /// Says that a request failed, which ends its stream.
    pub(crate) fn refuse(&self, stream: StreamId, code: ErrorCode, message: impl Into<String>) {
        // A host that is gone needs no answer.
        let _ = self.send(stream, Flags::END_STREAM, Fault::new(code, message));
    }

    fn lock(&self) -> MutexGuard<'_, Option<File>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
