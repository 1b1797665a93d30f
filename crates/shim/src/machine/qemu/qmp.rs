//! QEMU's own protocol (qmp-spec.txt): one JSON object a line, one answer for each command, and events in between.
//! What QEMU says is bounded and has a deadline: who broke out of a machine may speak through it. It refuses to go on
//! after anything that it does not understand.

use std::{
    io::{self, IoSlice, Read},
    os::{
        fd::{AsRawFd, BorrowedFd},
        unix::net::UnixStream,
    },
    path::Path,
    process::Child,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::socket::{ControlMessage, MsgFlags, getsockopt, sendmsg, sockopt},
    unistd::Pid,
};
use serde::Deserialize;
use serde_json::{Value, json};

/// Longest line of QEMU's, in bytes. What we ask for is answered in some hundred.
const LINE_LEN_MAX: usize = 256 * 1024;
/// Bytes read at once.
const READ_LEN_MAX: usize = 4096;
/// How often is looked whether a machine that was just started listens: it has no way to say so.
const CONNECT_INTERVAL: Duration = Duration::from_millis(2);

/// Why QEMU did not do it.
#[derive(Debug, thiserror::Error)]
pub(super) enum QmpError {
    /// The connection can't be made, or broke.
    #[error("QEMU can't be spoken with")]
    Broken(#[from] io::Error),
    /// It hung up.
    #[error("QEMU hung up")]
    Closed,
    /// It ended.
    #[error("QEMU ended ({0})")]
    Ended(std::process::ExitStatus),
    /// The deadline passed.
    #[error("QEMU did not answer in time")]
    Late,
    /// It said more than anything that it may say.
    #[error("QEMU said more than {LINE_LEN_MAX} bytes at once")]
    TooLong,
    /// It said what is no JSON, or of no known shape.
    #[error("QEMU said what is not understood")]
    Garbled(#[source] serde_json::Error),
    /// It said something else than what comes at this point.
    #[error("QEMU said {0} where it must not")]
    Unexpected(&'static str),
    /// It said no.
    #[error("{0}")]
    Refused(String),
}

/// What a line may be.
#[derive(Debug, Deserialize)]
struct Line {
    #[serde(rename = "QMP")]
    greeting: Option<Value>,
    #[serde(rename = "return")]
    value: Option<Value>,
    error: Option<Refusal>,
    event: Option<String>,
    data: Option<Value>,
    id: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    desc: String,
}

/// A connection that has been greeted.
#[derive(Debug)]
pub(super) struct Qmp {
    stream: UnixStream,
    received: Vec<u8>,
    last: u64,
    deadline: Instant,
}

impl Qmp {
    /// Connects to a machine that runs. Everything that is asked must be answered until the deadline.
    pub(super) fn connect(socket: &Path, deadline: Instant) -> Result<Self, QmpError> {
        Self::greet(UnixStream::connect(socket)?, deadline)
    }

    /// Connects to one that was just started.
    pub(super) fn reach(socket: &Path, machine: &mut Child, deadline: Instant) -> Result<Self, QmpError> {
        loop {
            match UnixStream::connect(socket) {
                Ok(stream) => return Self::greet(stream, deadline),
                Err(error) if Instant::now() > deadline => return Err(error.into()),
                Err(_) => {}
            }
            if let Some(status) = machine.try_wait()? {
                return Err(QmpError::Ended(status));
            }
            thread::sleep(CONNECT_INTERVAL);
        }
    }

    fn greet(stream: UnixStream, deadline: Instant) -> Result<Self, QmpError> {
        let mut qmp = Self { stream, received: Vec::new(), last: 0, deadline };
        match qmp.next_line()? {
            Line { greeting: Some(_), .. } => {}
            _ => return Err(QmpError::Unexpected("something else than its greeting")),
        }
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// The process at the other end.
    pub(super) fn process(&self) -> io::Result<Pid> {
        Ok(Pid::from_raw(getsockopt(&self.stream, sockopt::PeerCredentials)?.pid()))
    }

    /// Executes a command and waits for its answer.
    pub(super) fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value, QmpError> {
        self.send(command, arguments, None)
    }

    /// Gives QEMU an open file, which commands then know by this name.
    pub(super) fn give(&mut self, name: &str, file: BorrowedFd<'_>) -> Result<(), QmpError> {
        self.send("getfd", &json!({ "fdname": name }), Some(file)).map(drop)
    }

    fn send(
        &mut self,
        command: &str,
        arguments: &Value,
        file: Option<BorrowedFd<'_>>,
    ) -> Result<Value, QmpError> {
        self.last += 1;
        let mut line = json!({ "execute": command, "arguments": arguments, "id": self.last }).to_string();
        line.push('\n');
        self.stream.set_write_timeout(Some(self.left()?))?;
        let files = file.map(|file| [file.as_raw_fd()]);
        let control: Vec<_> = files.iter().map(|files| ControlMessage::ScmRights(files)).collect();
        let sent = sendmsg::<()>(
            self.stream.as_raw_fd(),
            &[IoSlice::new(line.as_bytes())],
            &control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        );
        if sent.map_err(io::Error::from)? != line.len() {
            // Commands are short: only a QEMU that reads nothing has no room for one.
            return Err(QmpError::Late);
        }
        loop {
            match self.next_line()? {
                Line { event: Some(_), .. } => {}
                Line { id, .. } if id != Some(self.last) => {
                    return Err(QmpError::Unexpected("an answer to something else"));
                }
                Line { value: Some(value), .. } => return Ok(value),
                Line { error: Some(refusal), .. } => return Err(QmpError::Refused(refusal.desc)),
                _ => return Err(QmpError::Unexpected("neither an answer nor an event")),
            }
        }
    }

    /// Waits for an event of that name whose data `wanted` makes something of.
    pub(super) fn wait_for<T>(
        &mut self,
        name: &str,
        mut wanted: impl FnMut(&Value) -> Option<T>,
    ) -> Result<T, QmpError> {
        loop {
            match self.next_line()? {
                Line { event: Some(event), data, .. } => {
                    let found = data.filter(|_| event == name).and_then(|data| wanted(&data));
                    if let Some(found) = found {
                        return Ok(found);
                    }
                }
                _ => return Err(QmpError::Unexpected("an answer that nobody asked for")),
            }
        }
    }

    fn next_line(&mut self) -> Result<Line, QmpError> {
        let mut buffer = [0; READ_LEN_MAX];
        let mut looked_at = 0;
        loop {
            if let Some(at) = self.received[looked_at..].iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=looked_at + at).collect();
                return serde_json::from_slice(&line).map_err(QmpError::Garbled);
            }
            looked_at = self.received.len();
            if looked_at > LINE_LEN_MAX {
                return Err(QmpError::TooLong);
            }
            self.stream.set_read_timeout(Some(self.left()?))?;
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(QmpError::Closed),
                Ok(len) => self.received.extend_from_slice(&buffer[..len]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(QmpError::Late),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn left(&self) -> Result<Duration, QmpError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(QmpError::Late) } else { Ok(left) }
    }
}

#[cfg(test)]
mod tests;
