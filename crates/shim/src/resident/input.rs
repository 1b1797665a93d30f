//! Bytes on their way to a process's standard input, as fast as it reads them. Whoever sent them gets its credit back
//! when they are gone. It refuses to hold more than the credit that was granted.

use std::{
    collections::VecDeque,
    io::{self, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use hypercore_wire::StreamId;

use super::client::ClientId;

/// What a terminal takes for the end of input (termios(3), VEOF).
const END_OF_TRANSMISSION: u8 = 4;

/// No further sender is let in while so many pieces wait: each has sent no more than its credit.
const PIECES_MAX: usize = 64;

/// Who sent a piece: a stream of a client.
pub(super) type Sender = (ClientId, StreamId);

/// Credit to give back, in bytes.
pub(super) type Grant = (Sender, u32);

#[derive(Debug)]
enum Piece {
    Data { sender: Sender, data: Vec<u8>, written: usize },
    End,
}

/// An open standard input.
#[derive(Debug)]
pub(super) struct Input {
    fd: std::fs::File,
    is_terminal: bool,
    queue: VecDeque<Piece>,
}

/// What a pump came to.
#[derive(Debug)]
pub(super) struct Pumped {
    /// Credit to give back.
    pub(super) grants: Vec<Grant>,
    /// The input was ended, or the process closed its end: drop it.
    pub(super) is_closed: bool,
}

impl Input {
    /// An input that ends in `fd`, which is non-blocking.
    pub(super) fn new(fd: OwnedFd, is_terminal: bool) -> Self {
        Self { fd: fd.into(), is_terminal, queue: VecDeque::new() }
    }

    /// Takes bytes whose credit was spent.
    pub(super) fn push(&mut self, sender: Sender, data: Vec<u8>) {
        match self.queue.back_mut() {
            _ if data.is_empty() => {}
            // Many small messages of one sender must not cost more than one large one.
            Some(Piece::Data { sender: last, data: waiting, .. }) if *last == sender => waiting.extend(data),
            _ => self.queue.push_back(Piece::Data { sender, data, written: 0 }),
        }
    }

    /// Ends the input behind what is queued.
    pub(super) fn push_end(&mut self) {
        self.queue.push_back(Piece::End);
    }

    /// Whether more may be pushed: not behind the end of a pipe.
    pub(super) fn is_open(&self) -> bool {
        self.is_terminal || !matches!(self.queue.back(), Some(Piece::End))
    }

    /// Whether another sender may be let in.
    pub(super) fn has_room(&self) -> bool {
        self.queue.len() < PIECES_MAX
    }

    /// Whether something is to be written.
    pub(super) fn is_waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Writes what the process takes now.
    pub(super) fn pump(&mut self) -> Pumped {
        let mut grants = Vec::new();
        while let Some(piece) = self.queue.front_mut() {
            let outcome = match piece {
                Piece::End if self.is_terminal => self.fd.write(&[END_OF_TRANSMISSION]).map(|_| true),
                Piece::End => return Pumped { grants, is_closed: true },
                Piece::Data { sender, data, written } => self.fd.write(&data[*written..]).map(|len| {
                    *written += len;
                    grants.push((*sender, u32::try_from(len).unwrap_or(u32::MAX)));
                    *written == data.len()
                }),
            };
            match outcome {
                Ok(is_done) => {
                    if is_done {
                        self.queue.pop_front();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Nobody reads any more.
                Err(_) => {
                    grants.extend(self.discard());
                    return Pumped { grants, is_closed: true };
                }
            }
        }
        Pumped { grants, is_closed: false }
    }

    /// Drops what is queued, and says whose credit that frees.
    pub(super) fn discard(&mut self) -> Vec<Grant> {
        let pieces = self.queue.drain(..);
        pieces
            .filter_map(|piece| match piece {
                Piece::Data { sender, data, written } => {
                    Some((sender, u32::try_from(data.len() - written).unwrap_or(u32::MAX)))
                }
                Piece::End => None,
            })
            .collect()
    }
}

impl AsFd for Input {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use nix::{fcntl::OFlag, unistd::pipe2};

    use super::*;

    const SENDER: Sender = (ClientId(1), StreamId(1));

    fn input() -> (Input, std::fs::File) {
        let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).unwrap();
        (Input::new(write, false), read.into())
    }

    fn granted(grants: &[Grant]) -> u32 {
        grants.iter().map(|(_, bytes)| bytes).sum()
    }

    #[test]
    fn a_full_pipe_holds_credit_back_until_it_is_read() {
        let (mut input, mut pipe) = input();
        input.push(SENDER, vec![7; 100_000]);
        input.push_end();
        let first = input.pump();
        assert!(granted(&first.grants) < 100_000 && !first.is_closed && input.is_waiting());
        let mut read = vec![0; 100_000];
        let len = pipe.read(&mut read).unwrap();
        assert_eq!(len, granted(&first.grants) as usize);
        let second = input.pump();
        assert_eq!(granted(&first.grants) + granted(&second.grants), 100_000);
        assert!(second.is_closed);
    }

    #[test]
    fn credit_comes_back_when_nobody_reads_any_more() {
        let (mut input, pipe) = input();
        input.push(SENDER, vec![7; 10]);
        drop(pipe);
        let pumped = input.pump();
        assert_eq!((granted(&pumped.grants), pumped.is_closed), (10, true));
    }
}
