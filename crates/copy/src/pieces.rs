//! A stream cut into pieces that somebody else carries. Headers of small files are gathered into larger pieces; neither
//! end holds more than one of them. It refuses to know what carries them.

use std::io::{self, Read, Write};

/// Bytes of a piece when nothing speaks for less.
pub const PIECE_BYTES: usize = 128 * 1024;

/// Where a stream is written that leaves in pieces. What is left over leaves by `flush`.
#[derive(Debug)]
pub struct Outgoing<S> {
    send: S,
    piece: Vec<u8>,
    len_max: usize,
}

impl<S: FnMut(Vec<u8>) -> io::Result<()>> Outgoing<S> {
    /// Pieces of at most `len_max` bytes, each given to `send`, which blocks while nobody takes it and fails when nobody
    /// ever will.
    pub fn new(len_max: usize, send: S) -> Self {
        Self { send, piece: Vec::with_capacity(len_max), len_max }
    }
}

impl<S: FnMut(Vec<u8>) -> io::Result<()>> Write for Outgoing<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len().min(self.len_max - self.piece.len());
        self.piece.extend_from_slice(&bytes[..len]);
        if self.piece.len() == self.len_max {
            self.flush()?;
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(self.len_max));
        (self.send)(piece)
    }
}

/// What comes in pieces, to be read.
#[derive(Debug)]
pub struct Incoming<N> {
    next: N,
    current: Vec<u8>,
    read: usize,
    has_ended: bool,
}

/// What may come next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// More of the stream.
    Data(Vec<u8>),
    /// The stream is complete. One that ends without this was broken off.
    End,
}

impl<N: FnMut() -> Option<Piece>> Incoming<N> {
    /// A stream of the pieces that `next` waits for; `None` says that nobody sends any more.
    pub const fn new(next: N) -> Self {
        Self { next, current: Vec::new(), read: 0, has_ended: false }
    }
}

impl<N: FnMut() -> Option<Piece>> Read for Incoming<N> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read == self.current.len() && !self.has_ended {
            match (self.next)() {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_ends_only_when_it_is_said_to() {
        let whole =
            [Piece::Data(b"ab".to_vec()), Piece::Data(Vec::new()), Piece::Data(b"c".to_vec()), Piece::End];
        let mut pieces = whole.clone().into_iter();
        let mut text = String::new();
        Incoming::new(|| pieces.next()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "abc");
        let mut pieces = whole[..3].iter().cloned();
        let error = Incoming::new(|| pieces.next()).read_to_string(&mut text).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn small_writes_leave_as_full_pieces() {
        let mut sent = Vec::new();
        let mut outgoing = Outgoing::new(4, |piece: Vec<u8>| {
            sent.push(piece);
            Ok(())
        });
        for text in ["ab", "cde", "f", "ghijk"] {
            outgoing.write_all(text.as_bytes()).unwrap();
        }
        outgoing.flush().unwrap();
        outgoing.flush().unwrap();
        assert_eq!(sent, [b"abcd".to_vec(), b"efgh".to_vec(), b"ijk".to_vec()]);
    }

    #[test]
    fn a_taker_that_is_gone_breaks_the_pipe() {
        let mut outgoing = Outgoing::new(8, |_| Err(io::ErrorKind::BrokenPipe.into()));
        outgoing.write_all(b"small").unwrap();
        assert_eq!(outgoing.flush().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
