//! One stream of a process's output, read until it ends. When the process ends while something it left behind holds
//! the stream open, what it wrote itself is still read, and no more. It refuses to wait for strangers.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use super::{kernel, log_writer::Stream};

/// How long a terminal must be quiet after its process ended to count as read. Its bytes pass through a queue of the
/// kernel, so that, unlike with a pipe, there is no telling how many are still to come.
const TERMINAL_QUIET: Duration = Duration::from_millis(100);
/// Most that is read from a terminal after its process ended, in bytes: more than it can have held.
const TERMINAL_REST_MAX: usize = 64 * 1024;

/// An open output.
#[derive(Debug)]
pub(super) struct Output {
    file: File,
    pub(super) stream: Stream,
    is_terminal: bool,
    rest: Option<Rest>,
}

/// What is still read after the process ended.
#[derive(Debug, Clone, Copy)]
struct Rest {
    bytes: usize,
    /// When a terminal counts as read, if nothing comes until then.
    quiet_at: Option<Instant>,
}

/// What a read came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// So many bytes are in the buffer.
    Read(usize),
    /// Nothing is there by now.
    Empty,
    /// Nothing more will come.
    Ended,
}

impl Output {
    /// The output that is read from `fd`, which is non-blocking.
    pub(super) fn new(fd: OwnedFd, stream: Stream, is_terminal: bool) -> Self {
        Self { file: fd.into(), stream, is_terminal, rest: None }
    }

    /// Reads what is there, at most a buffer full.
    pub(super) fn read(&mut self, buffer: &mut [u8], now: Instant) -> Outcome {
        let len_max = self.rest.map_or(buffer.len(), |rest| buffer.len().min(rest.bytes));
        if self.is_read() {
            return Outcome::Ended;
        }
        match self.file.read(&mut buffer[..len_max]) {
            Ok(0) => Outcome::Ended,
            Ok(len) => {
                if let Some(rest) = &mut self.rest {
                    rest.bytes -= len;
                    rest.quiet_at = rest.quiet_at.map(|_| now + TERMINAL_QUIET);
                }
                Outcome::Read(len)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Outcome::Empty,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.when_empty(now),
            // A terminal without a slave gives EIO: its end of file.
            Err(_) => Outcome::Ended,
        }
    }

    /// The process ended: only what it wrote is still wanted.
    pub(super) fn process_ended(&mut self, now: Instant) {
        self.rest = Some(if self.is_terminal {
            Rest { bytes: TERMINAL_REST_MAX, quiet_at: Some(now + TERMINAL_QUIET) }
        } else {
            Rest { bytes: kernel::readable_len(self.file.as_fd()).unwrap_or(0), quiet_at: None }
        });
    }

    /// Whether the process ended, so that the output is to be read to its end without being polled for.
    pub(super) const fn is_ending(&self) -> bool {
        self.rest.is_some()
    }

    /// Whether it is a terminal's master.
    pub(super) const fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Whether the process ended and what it wrote was read.
    pub(super) fn is_read(&self) -> bool {
        self.rest.is_some_and(|rest| rest.bytes == 0)
    }

    /// When to look again although nothing came.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.rest?.quiet_at
    }

    fn when_empty(&self, now: Instant) -> Outcome {
        match self.rest {
            None => Outcome::Empty,
            Some(Rest { quiet_at: Some(quiet_at), .. }) if now < quiet_at => Outcome::Empty,
            Some(_) => Outcome::Ended,
        }
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use nix::{fcntl::OFlag, unistd::pipe2};

    use super::*;

    #[test]
    fn after_the_process_only_its_own_bytes_are_read() {
        let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).unwrap();
        let mut output = Output::new(read, Stream::Stdout, false);
        let mut held_by_a_stranger = File::from(write);
        let (mut buffer, now) = ([0; 16], Instant::now());
        assert_eq!(output.read(&mut buffer, now), Outcome::Empty);
        held_by_a_stranger.write_all(b"own").unwrap();
        output.process_ended(now);
        held_by_a_stranger.write_all(b"strange").unwrap();
        assert_eq!(output.read(&mut buffer, now), Outcome::Read(3));
        assert_eq!(output.read(&mut buffer, now), Outcome::Ended);
    }

    #[test]
    fn a_terminal_is_read_until_it_is_quiet() {
        let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).unwrap();
        let mut output = Output::new(read, Stream::Stdout, true);
        let (mut buffer, start) = ([0; 16], Instant::now());
        output.process_ended(start);
        assert_eq!(output.deadline(), Some(start + TERMINAL_QUIET));
        File::from(write.try_clone().unwrap()).write_all(b"late").unwrap();
        let later = start + TERMINAL_QUIET / 2;
        assert_eq!(output.read(&mut buffer, later), Outcome::Read(4));
        assert_eq!(output.read(&mut buffer, start + TERMINAL_QUIET), Outcome::Empty);
        assert_eq!(output.read(&mut buffer, later + TERMINAL_QUIET), Outcome::Ended);
    }
}
