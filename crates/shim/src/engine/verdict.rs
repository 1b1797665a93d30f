//! What became of a start: a pipe of reports from the processes inside to the engine.
//! The process that is to become the program writes why it can't, and closes its end by execve if it can; the engine's
//! child writes the new process's id, or what `libcontainer` said. The first failure counts: it is nearest to the cause.
//! It refuses to block or to mix lines: each is cut to what the kernel writes at once.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
};

use nix::{fcntl::OFlag, unistd::pipe2};

use crate::report::{Failure, Report};

/// Longest message that is passed on, in bytes. A program's name alone can be 128 KiB; with every byte escaped
/// (`\u0001`), a line still stays below PIPE_BUF, 4,096 bytes.
const MESSAGE_LEN_MAX: usize = 600;

/// The end inside.
#[derive(Debug)]
pub(super) struct Sender(File);

/// The engine's end.
#[derive(Debug)]
pub(super) struct Receiver(BufReader<File>);

/// A new pipe; neither end survives an execve.
pub(super) fn channel() -> io::Result<(Sender, Receiver)> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    Ok((Sender(write.into()), Receiver(BufReader::new(read.into()))))
}

impl Sender {
    /// Tells the engine.
    pub(super) fn send(&self, mut report: Report) {
        if let Report::Error(failure) = &mut report {
            let end = failure.message.floor_char_boundary(MESSAGE_LEN_MAX);
            failure.message.truncate(end);
        }
        if let Ok(mut line) = serde_json::to_vec(&report) {
            line.push(b'\n');
            // If the engine is gone, there is nobody to tell.
            let _ = (&self.0).write_all(&line);
        }
    }
}

impl Receiver {
    /// The next report; `None` when every sender is closed.
    pub(super) fn next(&mut self) -> Option<Report> {
        let mut line = String::new();
        self.0.read_line(&mut line).ok()?;
        serde_json::from_str(&line).ok()
    }

    /// Waits until every sender is closed.
    ///
    /// # Errors
    /// The first failure that was sent.
    pub(super) fn end(mut self) -> Result<(), Failure> {
        while let Some(report) = self.next() {
            if let Report::Error(failure) = report {
                return Err(failure);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::FailureCode;

    fn failure(message: &str) -> Failure {
        Failure { code: FailureCode::CommandNotFound, message: message.into() }
    }

    #[test]
    fn the_first_failure_counts_and_silence_is_success() {
        let (sender, mut receiver) = channel().unwrap();
        sender.send(Report::Pid(7));
        sender.send(Report::Error(failure("first")));
        sender.send(Report::Error(failure("second")));
        drop(sender);
        assert_eq!(receiver.next(), Some(Report::Pid(7)));
        assert_eq!(receiver.end(), Err(failure("first")));

        let (sender, mut receiver) = channel().unwrap();
        drop(sender);
        assert_eq!(receiver.next(), None);
        assert_eq!(receiver.end(), Ok(()));
    }

    #[test]
    fn a_line_fits_into_one_write() {
        let (sender, mut receiver) = channel().unwrap();
        sender.send(Report::Error(failure(&"\u{1}".repeat(9000))));
        let Some(Report::Error(failure)) = receiver.next() else { panic!("no failure") };
        assert_eq!(failure.message.len(), MESSAGE_LEN_MAX);
        assert!(serde_json::to_vec(&failure).unwrap().len() < 4000);
    }
}
