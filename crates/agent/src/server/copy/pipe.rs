//! The two pipes between a copy's thread and its caller: pieces that come in are read, what is written goes out in
//! pieces. Both block when the other side is slow, so that nothing piles up.

use std::io::{self, Read, Write};

use hypercore_api::v1::{self, copy_response::Message as Out};
use tokio::sync::mpsc;
use tonic::Status;

/// Bytes of a piece that goes out. Headers of small files are gathered into such pieces.
const PIECE_BYTES: usize = 128 * 1024;

/// What a caller sends.
#[derive(Debug)]
pub(super) enum Piece {
    Data(Vec<u8>),
    /// The stream is complete.
    End,
}

/// What a caller sends, as a stream. One that ends without [`Piece::End`] was broken off.
#[derive(Debug)]
pub(super) struct Pieces {
    input: mpsc::Receiver<Piece>,
    current: Vec<u8>,
    read: usize,
    has_ended: bool,
}

impl Pieces {
    pub(super) const fn new(input: mpsc::Receiver<Piece>) -> Self {
        Self { input, current: Vec::new(), read: 0, has_ended: false }
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read == self.current.len() && !self.has_ended {
            match self.input.blocking_recv() {
                Some(Piece::Data(bytes)) => (self.current, self.read) = (bytes, 0),
                Some(Piece::End) => self.has_ended = true,
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

/// Where a stream for the caller is written.
#[derive(Debug)]
pub(super) struct Sink {
    answers: mpsc::Sender<Result<v1::CopyResponse, Status>>,
    piece: Vec<u8>,
}

impl Sink {
    pub(super) fn new(answers: mpsc::Sender<Result<v1::CopyResponse, Status>>) -> Self {
        Self { answers, piece: Vec::with_capacity(PIECE_BYTES) }
    }
}

impl Write for Sink {
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
        let answer = v1::CopyResponse { message: Some(Out::Data(piece)) };
        self.answers.blocking_send(Ok(answer)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_ends_only_when_it_is_said_to() {
        let (sender, receiver) = mpsc::channel(4);
        for piece in [Piece::Data(b"ab".to_vec()), Piece::Data(Vec::new()), Piece::Data(b"c".to_vec())] {
            sender.try_send(piece).unwrap();
        }
        sender.try_send(Piece::End).unwrap();
        let mut text = String::new();
        Pieces::new(receiver).read_to_string(&mut text).unwrap();
        assert_eq!(text, "abc");
        let (sender, receiver) = mpsc::channel(4);
        sender.try_send(Piece::Data(b"ab".to_vec())).unwrap();
        drop(sender);
        let error = Pieces::new(receiver).read_to_string(&mut text).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_caller_that_is_gone_breaks_the_pipe() {
        let (sender, receiver) = mpsc::channel(1);
        let mut sink = Sink::new(sender);
        sink.write_all(b"small").unwrap();
        drop(receiver);
        assert_eq!(sink.flush().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
