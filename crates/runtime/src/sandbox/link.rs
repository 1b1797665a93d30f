//! One connection to a shim, or through one to a guest: frames in, frames out, greeting first. All methods take `&self` and are cancel safe: bytes
//! are queued and read under short locks that are never held across an await.
//! It refuses to interpret messages beyond the greeting.

use std::{
    io,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use hypercore_wire::{
    Decoder, Flags, Message, StreamId,
    frame::FrameError,
    message::{DecodeError, Fault},
    negotiate,
    negotiation::{Incompatible, OLDEST, greeting},
};
use tokio::net::UnixStream;

use super::{error::ShimTooOld, socket};

/// Bytes read from the socket at once.
const READ_LEN_MAX: usize = 64 * 1024;

/// Why a connection is of no use, or of no more use.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Nobody listens.
    #[error("the socket can't be connected to")]
    Connect(#[source] io::Error),
    /// The connection broke.
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    /// The other end closed the connection, as it does when it ends.
    #[error("the other end closed the connection")]
    Closed,
    /// The other end ended the connection and said why.
    #[error("the other end ended the connection: {0}")]
    Ended(Fault),
    /// A message is too long for a frame.
    #[error("the message is too long for one frame")]
    TooLong(#[source] FrameError),
    /// What came is not a frame.
    #[error("what came is no frame")]
    Frame(#[source] FrameError),
    /// What came is not a message.
    #[error("what came is no message")]
    Decode(#[source] DecodeError),
    /// No protocol generation in common.
    #[error("the other end speaks another protocol")]
    Incompatible(#[source] Incompatible),
    /// The shim was started by an older release, which didn't know what is asked of it.
    #[error(transparent)]
    TooOld(ShimTooOld),
    /// A message that makes no sense at this point.
    #[error("a message of type {0} came where none was due")]
    Unexpected(u16),
}

impl LinkError {
    /// Whether it says that there is nobody, or nobody any more.
    pub(crate) fn means_gone(&self) -> bool {
        use io::ErrorKind as Kind;
        match self {
            Self::Closed => true,
            Self::Connect(error) => matches!(error.kind(), Kind::NotFound | Kind::ConnectionRefused),
            Self::Broken(error) => matches!(error.kind(), Kind::ConnectionReset | Kind::BrokenPipe),
            _ => false,
        }
    }
}

/// A message and where it belongs.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) stream: StreamId,
    pub(crate) message: Message,
}

/// One greeted connection.
#[derive(Debug)]
pub(crate) struct Link {
    socket: UnixStream,
    /// The newest generation of the protocol that both ends speak.
    generation: u8,
    incoming: Mutex<Decoder>,
    outgoing: Mutex<Vec<u8>>,
}

impl Link {
    /// The stream that a connection's only request goes over.
    pub(crate) const REQUEST: StreamId = StreamId(1);

    /// Connects to who listens at `path`.
    pub(crate) async fn connect(path: &Path) -> Result<Self, LinkError> {
        let socket = socket::connect(path).await.map_err(LinkError::Connect)?;
        Self::greet(socket).await
    }

    /// Greets who is at the other end of `socket`.
    pub(crate) async fn greet(socket: UnixStream) -> Result<Self, LinkError> {
        let (incoming, outgoing) = (Mutex::default(), Mutex::default());
        let mut link = Self { socket, generation: OLDEST, incoming, outgoing };
        if let Err(broken) = link.send(StreamId::CONNECTION, Flags::NONE, &greeting().into()).await {
            return Err(link.last_words(broken).await);
        }
        match link.receive().await?.message {
            Message::Hello(theirs) => {
                link.generation = negotiate(greeting(), theirs).map_err(LinkError::Incompatible)?;
                Ok(link)
            }
            other => Err(LinkError::Unexpected(other.number())),
        }
    }

    /// Why the peer closed the connection, if it said so before it did; `broken` otherwise. What never left this side
    /// needs no words of the peer.
    async fn last_words(&self, broken: LinkError) -> LinkError {
        if !matches!(broken, LinkError::Broken(_)) {
            return broken;
        }
        loop {
            match self.receive().await {
                Ok(_) => {}
                Err(said @ LinkError::Ended(_)) => return said,
                Err(_) => return broken,
            }
        }
    }

    /// Sends one request and waits for its first answer.
    pub(crate) async fn request(&self, message: Message) -> Result<Message, LinkError> {
        if let Err(broken) = self.send(Self::REQUEST, Flags::NONE, &message).await {
            return Err(self.last_words(broken).await);
        }
        self.answer().await
    }

    /// The next message on the request's stream.
    pub(crate) async fn answer(&self) -> Result<Message, LinkError> {
        let received = self.receive().await?;
        if received.stream == Self::REQUEST {
            Ok(received.message)
        } else {
            Err(LinkError::Unexpected(received.message.number()))
        }
    }

    /// Queues a message and waits until all that is queued was sent.
    pub(crate) async fn send(
        &self,
        stream: StreamId,
        flags: Flags,
        message: &Message,
    ) -> Result<(), LinkError> {
        self.queue(stream, flags, message)?;
        self.flush().await
    }

    /// Queues a message behind those that are queued. One that the shim is too old for isn't sent: an older shim might
    /// skip it in silence.
    pub(crate) fn queue(&self, stream: StreamId, flags: Flags, message: &Message) -> Result<(), LinkError> {
        let (needs, speaks) = (message.generation(), self.generation);
        if needs > speaks {
            return Err(LinkError::TooOld(ShimTooOld { needs, speaks }));
        }
        message.encode_to(stream, flags, &mut lock(&self.outgoing)).map_err(LinkError::TooLong)
    }

    /// Waits until all that is queued was sent.
    pub(crate) async fn flush(&self) -> Result<(), LinkError> {
        while !self.try_flush()? {
            self.socket.writable().await.map_err(LinkError::Broken)?;
        }
        Ok(())
    }

    /// Sends what the socket takes now. `true` when nothing is queued any more.
    fn try_flush(&self) -> Result<bool, LinkError> {
        let mut outgoing = lock(&self.outgoing);
        while !outgoing.is_empty() {
            match self.socket.try_write(&outgoing) {
                Ok(sent) => drop(outgoing.drain(..sent)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(LinkError::Broken(error)),
            }
        }
        Ok(true)
    }

    /// The next message. Messages of types that aren't known here are skipped; a fault of the connection is an error.
    pub(crate) async fn receive(&self) -> Result<Received, LinkError> {
        loop {
            if let Some(received) = self.try_receive()? {
                return Ok(received);
            }
            self.socket.readable().await.map_err(LinkError::Broken)?;
        }
    }

    /// A message out of what has come, reading what the socket has now if need be.
    fn try_receive(&self) -> Result<Option<Received>, LinkError> {
        let mut decoder = lock(&self.incoming);
        loop {
            while let Some(frame) = decoder.next_frame().map_err(LinkError::Frame)? {
                let message = match Message::decode(&frame.payload) {
                    Err(DecodeError::UnknownType { .. }) => continue,
                    message => message.map_err(LinkError::Decode)?,
                };
                return match message {
                    Message::Error(fault) if frame.stream == StreamId::CONNECTION => {
                        Err(LinkError::Ended(fault))
                    }
                    message => Ok(Some(Received { stream: frame.stream, message })),
                };
            }
            let mut buffer = Vec::with_capacity(READ_LEN_MAX);
            match self.socket.try_read_buf(&mut buffer) {
                Ok(0) => return Err(LinkError::Closed),
                Ok(_) => decoder.push(&buffer),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(LinkError::Broken(error)),
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each critical section leaves whole frames behind, so a panic elsewhere can't have torn them.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
