//! One connection of an agent to the shim: frames in, frames out, both bounded. It refuses to block: what a client
//! doesn't read stays here, and nothing more is asked or read for it until it does.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
};

use hypercore_wire::{
    Credit, Decoder, ErrorCode, Flags, Frame, Message, StreamId,
    frame::FrameError,
    message::{Fault, Window},
};

/// A client that doesn't read gets no more output, and no more answers, once so many bytes wait for it.
const BACKLOG_MAX: usize = 64 * 1024;
/// Bytes read from a client at once.
const READ_LEN_MAX: usize = 4 * 1024;
/// Memory that an idle client may keep, in bytes.
const IDLE_CAPACITY_MAX: usize = 4096;
/// Input that may be on its way to a process, in bytes for each stream.
pub(super) const INPUT_CREDIT: u32 = 32 * 1024;

/// Tells clients apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ClientId(pub(super) u32);

/// One connection.
#[derive(Debug)]
pub(super) struct Client {
    socket: UnixStream,
    decoder: Decoder,
    backlog: Vec<u8>,
    pub(super) is_greeted: bool,
    /// It broke the protocol: what waits is sent, and then the connection ends.
    is_ending: bool,
    /// Input credit by stream: of the workload's standard input and of executions.
    pub(super) inputs: BTreeMap<StreamId, Credit>,
}

/// The connection is of no more use.
#[derive(Debug)]
pub(super) struct Gone;

impl Client {
    /// A client on a non-blocking socket.
    pub(super) const fn new(socket: UnixStream) -> Self {
        Self {
            socket,
            decoder: Decoder::new(),
            backlog: Vec::new(),
            is_greeted: false,
            is_ending: false,
            inputs: BTreeMap::new(),
        }
    }

    /// Whether it may be sent more output.
    pub(super) const fn has_room(&self) -> bool {
        self.backlog.len() < BACKLOG_MAX
    }

    /// Whether something waits to be sent.
    pub(super) const fn is_behind(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Whether its requests are taken: not while it doesn't read the answers.
    pub(super) const fn is_heard(&self) -> bool {
        self.has_room() && !self.is_ending
    }

    /// Queues a message.
    pub(super) fn send(&mut self, stream: StreamId, flags: Flags, message: impl Into<Message>) {
        let queued = message.into().encode_to(stream, flags, &mut self.backlog);
        queued.expect("what the shim says fits into a frame");
    }

    /// Queues a failure, which ends its stream.
    pub(super) fn refuse(&mut self, stream: StreamId, code: ErrorCode, message: impl Into<String>) {
        self.send(stream, Flags::END_STREAM, Fault::new(code, message));
    }

    /// Queues a failure of the whole connection, which ends when that was sent.
    pub(super) fn expel(&mut self, code: ErrorCode, message: impl Into<String>) {
        self.refuse(StreamId::CONNECTION, code, message);
        self.is_ending = true;
    }

    /// Opens a stream for input.
    pub(super) fn open_input(&mut self, stream: StreamId) {
        self.inputs.insert(stream, Credit::default());
        self.grant_input(stream, INPUT_CREDIT);
    }

    /// Lets so much more input come on a stream, if that is still open.
    pub(super) fn grant_input(&mut self, stream: StreamId, bytes: u32) {
        if let Some(credit) = self.inputs.get_mut(&stream) {
            credit.grant(bytes).expect("what is given back was granted before");
            self.send(stream, Flags::NONE, Window { bytes });
        }
    }

    /// Takes in what came. `Gone` when the peer closed the connection.
    pub(super) fn receive(&mut self) -> Result<(), Gone> {
        let mut buffer = [0; READ_LEN_MAX];
        match self.socket.read(&mut buffer) {
            Ok(0) => Err(Gone),
            Ok(len) => {
                self.decoder.push(&buffer[..len]);
                Ok(())
            }
            Err(error) if is_temporary(&error) => Ok(()),
            Err(_) => Err(Gone),
        }
    }

    /// The next frame that came whole, unless the client is not to be heard now.
    pub(super) fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        if self.is_heard() { self.decoder.next_frame() } else { Ok(None) }
    }

    /// Sends what the peer takes now. `Gone` when the connection broke, or was to end and everything is sent.
    pub(super) fn flush(&mut self) -> Result<(), Gone> {
        let mut sent = 0;
        while sent < self.backlog.len() {
            match self.socket.write(&self.backlog[sent..]) {
                Ok(len) => sent += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_temporary(&error) => break,
                Err(_) => return Err(Gone),
            }
        }
        self.backlog.drain(..sent);
        if !self.backlog.is_empty() {
            return Ok(());
        }
        if self.backlog.capacity() > IDLE_CAPACITY_MAX {
            self.backlog = Vec::new();
        }
        if self.is_ending { Err(Gone) } else { Ok(()) }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
