//! Executions inside a running workload: one process, its output as events, its input.
//! It refuses to buffer: what isn't read stops the process's writes, and what the process doesn't read stops ours.

use std::{path::Path, sync::Arc, time::Duration};

use hypercore_model::ExitStatus;
use hypercore_wire::{
    Flags,
    message::{Exec, ExecResize, ExecSignal, Exit, Message, Size, Window},
};

use super::{
    error::{ExecError, InputError},
    link::{Link, LinkError},
    session::{OUTPUT_CREDIT, Session},
};

/// How long the shim and the engine may take to start a process.
const START_TIME_MAX: Duration = Duration::from_secs(60);

/// Size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// One process to run inside a workload. What isn't given is as for the workload's first process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecRequest {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// `KEY=VALUE`, added to the first process's environment; same keys replace.
    pub env: Vec<String>,
    /// `name|uid[:group|gid]`.
    pub user: Option<String>,
    /// Working directory inside, absolute.
    pub workdir: Option<String>,
    /// Give it a terminal: all output comes as [`ExecEvent::Stdout`] then.
    pub tty: bool,
    /// Whether input will follow; it reads end of file at once otherwise.
    pub stdin: bool,
    /// The terminal's size at the beginning.
    pub size: Option<TerminalSize>,
}

/// What comes from an execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecEvent {
    /// Bytes from its standard output, or its terminal.
    Stdout(Vec<u8>),
    /// Bytes from its standard error.
    Stderr(Vec<u8>),
    /// It ended; nothing follows.
    Exit(ExitStatus),
}

impl ExecEvent {
    /// How much credit the event took, in bytes.
    pub(super) fn len(&self) -> u32 {
        match self {
            Self::Stdout(data) | Self::Stderr(data) => u32::try_from(data.len()).unwrap_or(u32::MAX),
            Self::Exit(_) => 0,
        }
    }
}

/// A running execution. Dropping both halves closes its input; the process goes on, and its further output is lost
/// (one with a terminal is hung up).
#[derive(Debug)]
pub struct ExecSession {
    /// The process, in the shim's pid namespace.
    pub pid: i32,
    /// What comes from it.
    pub events: ExecEvents,
    /// What goes to it.
    pub input: Input,
}

/// Output and end of an execution.
#[derive(Debug)]
pub struct ExecEvents(Arc<Session>);

impl ExecEvents {
    /// The next event, `None` after [`ExecEvent::Exit`]. Cancel safe.
    ///
    /// # Errors
    /// [`ExecError::NotRunning`] when the shim vanished before the process's end was known.
    pub async fn next(&mut self) -> Result<Option<ExecEvent>, ExecError> {
        Ok(self.0.next().await?)
    }
}

/// A process's standard input, and what else can be told to it while it runs. May be used while events are awaited
/// elsewhere, or without anybody awaiting them.
#[derive(Debug, Clone)]
pub struct Input(Arc<Session>);

impl Input {
    pub(super) const fn new(session: Arc<Session>) -> Self {
        Self(session)
    }

    /// Writes all of `data`, as fast as the process reads it. What was written when the future is dropped stays written.
    ///
    /// # Errors
    /// [`InputError::NotOpen`] without a standard input, [`InputError::Ended`] when the process has ended.
    pub async fn write(&self, data: &[u8]) -> Result<(), InputError> {
        self.0.write(data).await
    }

    /// Ends the input: the process reads end of file; in a terminal, as if Ctrl-D was typed. Closing twice is fine.
    ///
    /// # Errors
    /// [`InputError::Ended`] when the process has ended.
    pub async fn close(&self) -> Result<(), InputError> {
        self.0.close().await
    }

    /// Sets the size of the execution's terminal. Only for executions; a workload's own terminal is
    /// [`super::Sandbox::resize`]d.
    ///
    /// # Errors
    /// [`InputError::Ended`] when the process has ended.
    pub async fn resize(&self, size: TerminalSize) -> Result<(), InputError> {
        self.0.tell(ExecResize { size: wire_size(size) }.into()).await
    }

    /// Sends a signal to the execution's process. Only for executions, as [`Self::resize`].
    ///
    /// # Errors
    /// [`InputError::Ended`] when the process has ended.
    pub async fn signal(&self, number: i32) -> Result<(), InputError> {
        self.0.tell(ExecSignal { number }.into()).await
    }
}

pub(super) async fn exec(socket: &Path, request: ExecRequest) -> Result<ExecSession, ExecError> {
    let has_input = request.stdin;
    let message = Exec {
        argv: request.argv,
        env: request.env,
        cwd: request.workdir,
        user: request.user,
        tty: request.tty,
        stdin: request.stdin,
        size: request.size.map(wire_size),
    };
    let started = tokio::time::timeout(START_TIME_MAX, async {
        let link = Link::connect(socket).await?;
        link.queue(Link::REQUEST, Flags::NONE, &message.into())?;
        link.send(Link::REQUEST, Flags::NONE, &Window { bytes: OUTPUT_CREDIT }.into()).await?;
        match link.answer().await? {
            Message::ExecStarted(started) => Ok((link, started.pid)),
            Message::Error(fault) => Err(ExecError::from(fault)),
            other => Err(ExecError::Link(LinkError::Unexpected(other.number()))),
        }
    });
    let (link, pid) = started.await.map_err(|_| ExecError::Silent)??;
    let session = Arc::new(Session::new(link));
    if !has_input {
        session.forbid_input();
    }
    Ok(ExecSession { pid, events: ExecEvents(Arc::clone(&session)), input: Input(session) })
}

pub(super) const fn wire_size(size: TerminalSize) -> Size {
    Size { rows: size.rows, columns: size.columns }
}

pub(super) const fn exit_status(exit: Exit) -> ExitStatus {
    match exit {
        Exit::Code(code) => ExitStatus::Code(code),
        Exit::Signal(signal) => ExitStatus::Signal(signal),
        Exit::OutOfMemory => ExitStatus::OutOfMemory,
    }
}
