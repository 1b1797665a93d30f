//! One connection to the host: whole messages in, whole messages out, from any thread. It refuses to interpret them.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use hypercore_wire::{
    Decoder, ErrorCode, Flags, Frame, Message, StreamId, frame::FrameError, message::Fault,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Bytes read at once.
const READ_LEN_MAX: usize = 16 * 1024;

/// The writing end, which many threads hold.
#[derive(Debug, Clone)]
pub(crate) struct Sender(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    gate: Mutex<Gate>,
    changed: Condvar,
}

/// Whether something may be sent.
#[derive(Debug)]
enum Gate {
    Open(File),
    /// Not now: whoever wants to waits.
    Held(File),
    /// Nothing more: the machine goes on from a snapshot, whose host was another one.
    Left,
    /// Nothing more. A port can be opened once, so that the file is gone too.
    Closed,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// The host will get it.
    Yes,
    /// The host takes nothing any more.
    No,
    /// That host never gets it, and another one may want it: the machine goes on from a snapshot.
    Left,
}

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
        let sender = Sender::over(reader.try_clone()?);
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

    /// Begins a new conversation over the same port, because the machine went on from a snapshot: who held the old
    /// one's sender sends nothing any more. `false` when there is nothing to speak over: a socket ends with its host.
    pub(crate) fn begin_anew(&mut self, is_greeted: bool) -> bool {
        let Some(file) = self.sender.leave() else { return false };
        self.sender = Sender::over(file);
        // What was begun by the old host is never ended.
        is_greeted || (self.is_port && self.wait_for_host().is_ok())
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
    fn over(file: File) -> Self {
        Self(Arc::new(Shared { gate: Mutex::new(Gate::Open(file)), changed: Condvar::new() }))
    }

    /// Sends a message. `false` when this host takes no more.
    pub(crate) fn send(&self, stream: StreamId, flags: Flags, message: impl Into<Message>) -> bool {
        self.try_send(stream, flags, message) == Sent::Yes
    }

    /// Sends a message, and says whether another host may want it instead.
    pub(crate) fn try_send(&self, stream: StreamId, flags: Flags, message: impl Into<Message>) -> Sent {
        let mut bytes = Vec::with_capacity(64);
        if message.into().encode_to(stream, flags, &mut bytes).is_err() {
            return Sent::No;
        }
        let is_held = |gate: &mut Gate| matches!(gate, Gate::Held(_));
        let mut gate =
            self.0.changed.wait_while(self.lock(), is_held).unwrap_or_else(PoisonError::into_inner);
        match &mut *gate {
            Gate::Open(file) => match file.write_all(&bytes) {
                Ok(()) => Sent::Yes,
                Err(_) => Sent::No,
            },
            Gate::Left => Sent::Left,
            Gate::Held(_) | Gate::Closed => Sent::No,
        }
    }

    /// Holds back everything from here on, after the frame that is being sent.
    pub(crate) fn hold(&self) {
        let mut gate = self.lock();
        *gate = match std::mem::replace(&mut *gate, Gate::Closed) {
            Gate::Open(file) => Gate::Held(file),
            other => other,
        };
    }

    /// Sends the last message before the machine rests, past those that are held back.
    pub(crate) fn send_last(&self, stream: StreamId, message: impl Into<Message>) {
        let mut bytes = Vec::with_capacity(64);
        let encoded = message.into().encode_to(stream, Flags::END_STREAM, &mut bytes);
        if let (Ok(()), Gate::Held(file)) = (encoded, &mut *self.lock()) {
            // A host that is gone takes the machine with it.
            let _ = file.write_all(&bytes);
        }
    }

    /// Lets what was held back go.
    pub(crate) fn release(&self) {
        let mut gate = self.lock();
        *gate = match std::mem::replace(&mut *gate, Gate::Closed) {
            Gate::Held(file) => Gate::Open(file),
            other => other,
        };
        self.0.changed.notify_all();
    }

    /// Hangs up.
    pub(crate) fn close(&self) {
        *self.lock() = Gate::Closed;
        self.0.changed.notify_all();
    }

    /// Gives up a conversation that another host had, and what it was held over.
    pub(crate) fn leave(&self) -> Option<File> {
        let left = std::mem::replace(&mut *self.lock(), Gate::Left);
        self.0.changed.notify_all();
        match left {
            Gate::Open(file) | Gate::Held(file) => Some(file),
            Gate::Left | Gate::Closed => None,
        }
    }

    /// Whether both lead to the same conversation.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Says that a request failed, which ends its stream.
    pub(crate) fn refuse(&self, stream: StreamId, code: ErrorCode, message: impl Into<String>) {
        // A host that is gone needs no answer.
        let _ = self.send(stream, Flags::END_STREAM, Fault::new(code, message));
    }

    fn lock(&self) -> MutexGuard<'_, Gate> {
        self.0.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
