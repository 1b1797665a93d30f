//! What became of the program: a pipe from the process that was to become it to the engine.
//! Its execve closes the pipe; whatever goes wrong before is written to it first, because `libcontainer` passes on texts
//! only, and nothing at all after the container was started.
//! It refuses to block: a failure is cut to what fits into the pipe's buffer.

use std::{
    fs::File,
    io::{self, Read, Write},
};

use nix::{fcntl::OFlag, unistd::pipe2};

use crate::report::Failure;

/// Longest message that is passed on, in bytes; a program's name alone can be 128 KiB.
const MESSAGE_LEN_MAX: usize = 1024;

/// The end inside the container.
#[derive(Debug)]
pub(super) struct Sender(File);

/// The engine's end.
#[derive(Debug)]
pub(super) struct Receiver(File);

/// A new pipe; neither end survives an execve.
pub(super) fn channel() -> io::Result<(Sender, Receiver)> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    Ok((Sender(write.into()), Receiver(read.into())))
}

impl Sender {
    /// Tells the engine why there is no program.
    pub(super) fn send(&self, failure: &Failure) {
        let mut failure = failure.clone();
        let end = failure.message.floor_char_boundary(MESSAGE_LEN_MAX);
        failure.message.truncate(end);
        if let Ok(json) = serde_json::to_vec(&failure) {
            // If the engine is gone, there is nobody to tell.
            let _ = (&self.0).write_all(&json);
        }
    }
}

impl Receiver {
    /// Waits until every sender is closed: `Ok` if the program runs.
    ///
    /// # Errors
    /// The first failure that was sent.
    pub(super) fn wait(mut self) -> Result<(), Failure> {
        let mut bytes = Vec::new();
        if self.0.read_to_end(&mut bytes).is_err() {
            return Ok(());
        }
        let mut failures = serde_json::Deserializer::from_slice(&bytes).into_iter::<Failure>();
        match failures.next() {
            Some(Ok(failure)) => Err(failure),
            Some(Err(_)) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::FailureCode;

    #[test]
    fn the_first_failure_counts_and_silence_is_success() {
        let (sender, receiver) = channel().unwrap();
        sender.send(&Failure { code: FailureCode::CommandNotFound, message: "é".repeat(4096) });
        sender.send(&Failure { code: FailureCode::Engine, message: "later".into() });
        drop(sender);
        let failure = receiver.wait().unwrap_err();
        assert_eq!(failure.code, FailureCode::CommandNotFound);
        assert_eq!(failure.message.len(), MESSAGE_LEN_MAX);

        let (sender, receiver) = channel().unwrap();
        drop(sender);
        assert_eq!(receiver.wait(), Ok(()));
    }
}
