//! A tar stream between the agent's messages and a thread that packs or unpacks. Each side waits for the other: no more
//! than a few pieces are ever in memory.

use std::io::{self, Read, Write};

use hypercore_api::{
    ApiError,
    client::Incoming as Messages,
    v1::{self, copy_request::Message as In, copy_response::Message as Out},
};
use tokio::sync::mpsc;

/// Pieces between the two sides.
pub(super) const PIECES_MAX: usize = 8;
/// Bytes of a piece.
const PIECE_BYTES: usize = 128 * 1024;

/// What a thread packs, on its way to the agent.
#[derive(Debug)]
pub(super) struct Outgoing {
    requests: mpsc::Sender<v1::CopyRequest>,
    piece: Vec<u8>,
}

impl Outgoing {
    pub(super) fn new(requests: mpsc::Sender<v1::CopyRequest>) -> Self {
        Self { requests, piece: Vec::with_capacity(PIECE_BYTES) }
    }

    /// Says that the stream is complete.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.send(In::Done(true))
    }

    fn send(&self, message: In) -> io::Result<()> {
        let request = v1::CopyRequest { message: Some(message) };
        self.requests.blocking_send(request).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Outgoing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len().min(PIECE_BYTES - self.piece.len());
        self.piece.extend_from_slice(&bytes[..len]);
        if self.piece.len() == PIECE_BYTES {
            self.flush()?;
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
        self.send(In::Data(piece))
    }
}

/// What the agent sends, to be read by a thread. `None` is its end.
#[derive(Debug)]
pub(super) struct Incoming {
    pieces: mpsc::Receiver<Option<Vec<u8>>>,
    current: Vec<u8>,
    read: usize,
    has_ended: bool,
}

impl Incoming {
    pub(super) const fn new(pieces: mpsc::Receiver<Option<Vec<u8>>>) -> Self {
        Self { pieces, current: Vec::new(), read: 0, has_ended: false }
    }
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read == self.current.len() && !self.has_ended {
            match self.pieces.blocking_recv() {
                Some(Some(bytes)) => (self.current, self.read) = (bytes, 0),
                Some(None) => self.has_ended = true,
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let rest = &self.current[self.read..];
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        self.read += len;
        Ok(len)
    }
}

/// Carries the agent's pieces to whoever reads them, until the agent says that it is done. A reader that is gone has
/// failed, and says so itself.
pub(super) async fn pump(
    mut messages: Messages<v1::CopyResponse>,
    pieces: mpsc::Sender<Option<Vec<u8>>>,
) -> Result<(), ApiError> {
    while let Some(message) = messages.next().await? {
        let piece = match message.message {
            Some(Out::Data(bytes)) => Some(bytes),
            Some(Out::Done(_)) => None,
            Some(Out::Stat(_)) | None => continue,
        };
        let is_over = piece.is_none();
        if pieces.send(piece).await.is_err() || is_over {
            return Ok(());
        }
    }
    Ok(())
}
