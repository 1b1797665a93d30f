//! One framed connection, to the guest or to a stand-in: frames in on one thread, frames out from any.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    os::{fd::AsFd, unix::net::UnixStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError},
    thread,
    time::{Duration, Instant},
};

use hypercore_wire::{
    Decoder, Flags, Frame, Message, StreamId,
    frame::FrameError,
    negotiate,
    negotiation::{Incompatible, greeting},
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How often is looked whether a frame is through, by who wants to be the next.
const HOLD_INTERVAL: Duration = Duration::from_millis(1);
/// Bytes read at once.
const READ_LEN_MAX: usize = 16 * 1024;

/// Why nothing more comes.
#[derive(Debug, thiserror::Error)]
pub(super) enum PeerError {
    /// It hung up.
    #[error("the connection was closed")]
    Closed,
    /// The connection broke, or its deadline passed.
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    /// It sent what is no frame.
    #[error("what came is no frame")]
    Frame(#[from] FrameError),
    /// It began with something else than a greeting.
    #[error("the first message was no greeting")]
    NoGreeting,
    /// It is of another age.
    #[error(transparent)]
    Incompatible(#[from] Incompatible),
}

/// The reading end.
#[derive(Debug)]
pub(super) struct Receiver {
    stream: UnixStream,
    decoder: Decoder,
}

/// The writing end.
#[derive(Debug, Clone)]
pub(super) struct Sender(Arc<Mutex<UnixStream>>);

/// Splits a connection.
pub(super) fn split(stream: UnixStream) -> io::Result<(Sender, Receiver)> {
    let sender = Sender(Arc::new(Mutex::new(stream.try_clone()?)));
    Ok((sender, Receiver { stream, decoder: Decoder::new() }))
}

/// Says hello and hears it.
pub(super) fn greet(sender: &Sender, receiver: &mut Receiver) -> Result<(), PeerError> {
    sender.send(StreamId::CONNECTION, Flags::NONE, greeting()).map_err(PeerError::Broken)?;
    let frame = receiver.next_frame()?;
    match Message::decode(&frame.payload) {
        Ok(Message::Hello(theirs)) => Ok(negotiate(greeting(), theirs).map(drop)?),
        _ => Err(PeerError::NoGreeting),
    }
}

impl Receiver {
    /// The connection itself, to set deadlines on.
    pub(super) const fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Waits for the next frame.
    pub(super) fn next_frame(&mut self) -> Result<Frame, PeerError> {
        let mut buffer = [0; READ_LEN_MAX];
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(frame);
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(PeerError::Closed),
                Ok(len) => self.decoder.push(&buffer[..len]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(PeerError::Broken(error)),
            }
        }
    }
}

impl Sender {
    /// Sends a message.
    pub(super) fn send(&self, stream: StreamId, flags: Flags, message: impl Into<Message>) -> io::Result<()> {
        self.forward(&Frame { stream, flags, payload: message.into().encode() })
    }

    /// Sends a frame as it is.
    pub(super) fn forward(&self, frame: &Frame) -> io::Result<()> {
        let mut bytes = Vec::new();
        frame.encode_to(&mut bytes).map_err(io::Error::other)?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(&bytes)
    }

    /// Holds back what others send, after the frame that is being sent. `None` when that one is still not through at the
    /// deadline: the other end takes nothing.
    pub(super) fn hold(&self, deadline: Instant) -> Option<Held<'_>> {
        loop {
            match self.0.try_lock() {
                Ok(stream) => return Some(Held(stream)),
                Err(TryLockError::Poisoned(stream)) => return Some(Held(stream.into_inner())),
                Err(TryLockError::WouldBlock) if Instant::now() > deadline => return None,
                Err(TryLockError::WouldBlock) => thread::sleep(HOLD_INTERVAL),
            }
        }
    }

    /// Hangs up, for the reading end too.
    pub(super) fn close(&self) {
        // A connection that is gone already is as good.
        let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).shutdown(Shutdown::Both);
    }
}

/// Whoever holds this sends alone.
#[derive(Debug)]
pub(super) struct Held<'a>(MutexGuard<'a, UnixStream>);

impl Held<'_> {
    /// Puts another connection in the place of this one, which ends: for all who send over it.
    pub(super) fn replace(&mut self, by: UnixStream) {
        // One that is gone already is as good.
        let _ = self.0.shutdown(Shutdown::Both);
        *self.0 = by;
    }

    /// Sends a short message, unless there is no room for it until the deadline.
    pub(super) fn send(
        &mut self,
        stream: StreamId,
        message: impl Into<Message>,
        deadline: Instant,
    ) -> io::Result<()> {
        let mut bytes = Vec::new();
        message.into().encode_to(stream, Flags::NONE, &mut bytes).map_err(io::Error::other)?;
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLOUT)];
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        if poll(&mut fds, timeout)? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.0.write_all(&bytes)
    }
}
