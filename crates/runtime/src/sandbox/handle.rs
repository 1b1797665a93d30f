//! A handle on one running workload. It refuses to keep a connection: each call makes its own, so that a handle may be
//! cloned, kept and dropped freely.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hypercore_model::{Attempt, Timestamp, WorkloadId, exit::ExitRecord};
use hypercore_wire::message::{
    AskRelease, Describe, Exited, Message, OpenStdin, Resize, Signal, State, Wait,
};

use super::{
    ANSWER_TIME_MAX,
    error::{ExecError, InputError, RequestError, ShimVanished},
    exec::{self, ExecRequest, ExecSession, Input, TerminalSize, exit_status, wire_size},
    link::{Link, LinkError},
    session::Session,
};
use crate::machine::ending;

/// Pause before the end is waited for again, when the shim is there but had no room for one more client.
const WAIT_AGAIN: Duration = Duration::from_secs(1);
/// Name of the record that a shim leaves in its workload's directory.
const EXIT_RECORD: &str = "exit.json";

/// One running workload, or one that has just ended.
#[derive(Debug, Clone)]
pub struct Sandbox(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    id: WorkloadId,
    socket: PathBuf,
    directory: PathBuf,
    state: State,
}

impl Sandbox {
    /// Connects to the shim that listens at `socket` and asks it what it holds.
    pub(super) async fn connect(
        id: WorkloadId,
        socket: PathBuf,
        directory: &Path,
    ) -> Result<Self, RequestError> {
        let link = Link::connect(&socket).await?;
        Self::describe(id, &link, socket, directory.to_owned()).await
    }

    /// Asks the shim at the other end of `link` what it holds. It answers when the workload runs.
    pub(super) async fn describe(
        id: WorkloadId,
        link: &Link,
        socket: PathBuf,
        directory: PathBuf,
    ) -> Result<Self, RequestError> {
        match link.request(Describe {}.into()).await? {
            Message::State(state) if state.id.parse() == Ok(id) => {
                Ok(Self::described(id, socket, directory, state))
            }
            Message::State(state) => Err(RequestError::Foreign { expected: id, found: state.id }),
            Message::Error(fault) => Err(RequestError::Refused(fault)),
            other => Err(RequestError::Link(LinkError::Unexpected(other.number()))),
        }
    }

    /// A sandbox that is known to hold this.
    pub(super) fn described(id: WorkloadId, socket: PathBuf, directory: PathBuf, state: State) -> Self {
        Self(Arc::new(Inner { id, socket, directory, state }))
    }

    /// The workload's id.
    #[must_use]
    pub fn id(&self) -> WorkloadId {
        self.0.id
    }

    /// Which attempt at running the workload this is.
    #[must_use]
    pub fn attempt(&self) -> Attempt {
        Attempt::new(self.0.state.attempt)
    }

    /// The first process, in the shim's pid namespace.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.0.state.pid
    }

    /// When the first process started.
    #[must_use]
    pub fn started_at(&self) -> Timestamp {
        Timestamp::from_unix_ms(self.0.state.started_at_ms)
    }

    /// Whether the first process has a terminal.
    #[must_use]
    pub fn has_tty(&self) -> bool {
        self.0.state.tty
    }

    /// Sends a signal to the first process.
    ///
    /// # Errors
    /// [`RequestError::Gone`] when it has ended.
    pub async fn signal(&self, number: i32) -> Result<(), RequestError> {
        if number == libc::SIGKILL {
            // The end of a machine that is killed by request needs no explanation.
            ending::forget(&self.0.directory);
        }
        self.command(Signal { number }.into()).await
    }

    /// Sets the size of the first process's terminal.
    ///
    /// # Errors
    /// [`RequestError::Refused`] when it has none, [`RequestError::Gone`] when it has ended.
    pub async fn resize(&self, size: TerminalSize) -> Result<(), RequestError> {
        self.command(Resize { size: wire_size(size) }.into()).await
    }

    /// Waits for the end of the first process, all of its output being in the log then.
    ///
    /// # Errors
    /// [`ShimVanished`] when the shim is gone and left no record.
    pub async fn exited(&self) -> Result<ExitRecord, ShimVanished> {
        loop {
            match self.wait().await {
                // The record says more than the message, and was there before it.
                Ok(exited) => {
                    let written = read_exit_record(&self.0.directory).ok().flatten();
                    return Ok(written.unwrap_or_else(|| record(&exited)));
                }
                Err(error) if error.means_gone() => break,
                Err(error) => {
                    tracing::warn!(workload = %self.0.id, %error, "waiting for its end failed; trying again");
                    tokio::time::sleep(WAIT_AGAIN).await;
                }
            }
        }
        read_exit_record(&self.0.directory).ok().flatten().ok_or(ShimVanished)
    }

    /// Opens the first process's standard input for writing. Several may write at once; each write stays together.
    ///
    /// # Errors
    /// [`InputError::NotOpen`] when the workload was not launched with an open input, or that was closed;
    /// [`InputError::Ended`] when the workload has ended.
    pub async fn open_stdin(&self) -> Result<Input, InputError> {
        let link = Link::connect(&self.0.socket).await?;
        link.send(Link::REQUEST, hypercore_wire::Flags::NONE, &OpenStdin {}.into()).await?;
        let session = Arc::new(Session::new(link));
        session.opened().await?;
        Ok(Input::new(session))
    }

    /// Runs one more process inside the workload. Returns when it runs.
    ///
    /// # Errors
    /// [`ExecError`] tells apart whose fault it is.
    pub async fn exec(&self, request: ExecRequest) -> Result<ExecSession, ExecError> {
        exec::exec(&self.0.socket, request).await
    }

    /// Which release of Hypercore the shim is of: it is as old as its workload.
    ///
    /// # Errors
    /// [`RequestError::TooOld`] when it is so old that it can't say.
    pub async fn release(&self) -> Result<String, RequestError> {
        match self.request(AskRelease {}.into()).await? {
            Message::Release(release) => Ok(release.release),
            other => Err(RequestError::Link(LinkError::Unexpected(other.number()))),
        }
    }

    async fn wait(&self) -> Result<Exited, RequestError> {
        let link = Link::connect(&self.0.socket).await?;
        match link.request(Wait {}.into()).await? {
            Message::Exited(exited) => Ok(exited),
            Message::Error(fault) => Err(RequestError::Refused(fault)),
            other => Err(RequestError::Link(LinkError::Unexpected(other.number()))),
        }
    }

    async fn command(&self, message: Message) -> Result<(), RequestError> {
        match self.request(message).await? {
            Message::Done(_) => Ok(()),
            other => Err(RequestError::Link(LinkError::Unexpected(other.number()))),
        }
    }

    /// Asks something that a living shim answers at once.
    async fn request(&self, message: Message) -> Result<Message, RequestError> {
        let answered = tokio::time::timeout(ANSWER_TIME_MAX, async {
            Link::connect(&self.0.socket).await?.request(message).await
        });
        match answered.await.map_err(|_| RequestError::Silent)?? {
            Message::Error(fault) if fault.code == hypercore_wire::ErrorCode::NOT_RUNNING => {
                Err(RequestError::Gone)
            }
            Message::Error(fault) => Err(RequestError::Refused(fault)),
            answer => Ok(answer),
        }
    }
}

fn record(exited: &Exited) -> ExitRecord {
    let at = Timestamp::from_unix_ms;
    ExitRecord::new(exit_status(exited.exit), at(exited.started_at_ms), at(exited.finished_at_ms))
}

/// The record that a shim left in the workload's directory, if there is one.
pub(super) fn read_exit_record(directory: &Path) -> io::Result<Option<ExitRecord>> {
    match fs::read(directory.join(EXIT_RECORD)) {
        Ok(json) => Ok(Some(serde_json::from_slice(&json)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes the record of an earlier attempt.
pub(super) fn remove_exit_record(directory: &Path) -> io::Result<()> {
    match fs::remove_file(directory.join(EXIT_RECORD)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
