//! How operations on sandboxes fail, by step.

use std::{io, path::PathBuf, process::ExitStatus as ProcessStatus};

use hypercore_model::WorkloadId;
use hypercore_wire::{ErrorCode, message::Fault};

use super::link::LinkError;

/// Why a workload was not launched.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// A shim of this workload is there already.
    #[error("the workload's shim is already there")]
    AlreadyLaunched,
    /// The directory of the sockets can't be made.
    #[error("the directory {} can't be made", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The exit record of an earlier attempt can't be removed.
    #[error("the exit record of an earlier attempt can't be removed")]
    StaleRecord(#[source] io::Error),
    /// The shim's program can't be started.
    #[error("the shim {} can't be started", program.display())]
    SpawnShim {
        /// The program.
        program: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The shim's program ended at once.
    #[error("the shim ended before it began to serve: {0}")]
    ShimEnded(ProcessStatus),
    /// The shim can't be spoken with, or was killed.
    #[error("the shim was lost before the workload ran")]
    Link(#[source] LinkError),
    /// No answer in time.
    #[error("the shim did not start the workload in time")]
    Silent,
    /// The program is neither a path that exists nor found in `PATH`, inside the rootfs.
    #[error("{0}")]
    CommandNotFound(String),
    /// The program exists but can't be executed.
    #[error("{0}")]
    NotExecutable(String),
    /// The shim or the engine failed, and said in what.
    #[error("{0}")]
    Refused(#[source] Fault),
}

impl From<Fault> for LaunchError {
    fn from(fault: Fault) -> Self {
        match fault.code {
            ErrorCode::COMMAND_NOT_FOUND => Self::CommandNotFound(fault.message),
            ErrorCode::NOT_EXECUTABLE => Self::NotExecutable(fault.message),
            _ => Self::Refused(fault),
        }
    }
}

/// Why a shim could not be adopted.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// The shim is there but doesn't answer as it should.
    #[error("the shim is there, but can't be spoken with")]
    Request(#[source] RequestError),
    /// The exit record can't be read.
    #[error("the exit record can't be read")]
    Record(#[source] io::Error),
}

/// The directory of the sockets can't be read.
#[derive(Debug, thiserror::Error)]
#[error("the shims' sockets in {} can't be listed", path.display())]
pub struct ScanError {
    /// The directory.
    pub path: PathBuf,
    /// Why not.
    #[source]
    pub source: io::Error,
}

/// Why something may be left of a sandbox.
#[derive(Debug, thiserror::Error)]
pub enum DestroyError {
    /// A shim that didn't end when asked could not be killed.
    #[error("the shim could not be killed")]
    KillShim(#[source] io::Error),
    /// The engine's program can't be started.
    #[error("the engine can't be started")]
    SpawnEngine(#[source] io::Error),
    /// The engine could not delete the container.
    #[error("the engine could not delete the container ({status}): {message}")]
    Engine {
        /// How it ended.
        status: ProcessStatus,
        /// What it wrote to its standard error.
        message: String,
    },
    /// The socket can't be removed.
    #[error("the shim's socket can't be removed")]
    RemoveSocket(#[source] io::Error),
    /// The container's description can't be removed.
    #[error("the container's description can't be removed")]
    RemoveConfig(#[source] io::Error),
}

/// A shim that was started by an older release than this, and doesn't know what was to be asked of it. Nothing was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the workload's shim is older than this agent and can't do that: it speaks generation {speaks} of the protocol, \
     and generation {needs} is needed; restart the workload, and a new shim will hold it"
)]
pub struct ShimTooOld {
    /// The generation that brought what was to be asked.
    pub needs: u8,
    /// The newest generation that both ends speak.
    pub speaks: u8,
}

/// Why a request to a shim failed.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// There is no shim, or no longer: the workload has ended.
    #[error("the workload has no shim any more")]
    Gone,
    /// The connection failed.
    #[error("the shim can't be spoken with")]
    Link(#[source] LinkError),
    /// No answer in time.
    #[error("the shim did not answer in time")]
    Silent,
    /// The shim is too old for this.
    #[error(transparent)]
    TooOld(ShimTooOld),
    /// The socket is served for another workload.
    #[error("the socket of {expected} is served by the shim of `{found}`")]
    Foreign {
        /// Whose socket it is.
        expected: WorkloadId,
        /// Whose shim answers.
        found: String,
    },
    /// The shim refused.
    #[error("{0}")]
    Refused(#[source] Fault),
}

impl RequestError {
    pub(super) const fn means_gone(&self) -> bool {
        matches!(self, Self::Gone)
    }
}

impl From<LinkError> for RequestError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Ended(fault) => Self::Refused(fault),
            LinkError::TooOld(too_old) => Self::TooOld(too_old),
            error if error.means_gone() => Self::Gone,
            error => Self::Link(error),
        }
    }
}

/// Why an execution did not start, or was lost.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The workload has ended, or ended meanwhile.
    #[error("the workload does not run")]
    NotRunning,
    /// The program is neither a path that exists nor found in `PATH`, inside the rootfs.
    #[error("{0}")]
    CommandNotFound(String),
    /// The program exists but can't be executed.
    #[error("{0}")]
    NotExecutable(String),
    /// No such user or group inside the rootfs.
    #[error("{0}")]
    NoSuchUser(String),
    /// The workload is paused.
    #[error("{0}")]
    Frozen(String),
    /// The shim is too old for this.
    #[error(transparent)]
    TooOld(ShimTooOld),
    /// Command line and environment don't fit into one request.
    #[error("the command line and environment are too long")]
    TooLong(#[source] LinkError),
    /// The shim can't be spoken with.
    #[error("the shim can't be spoken with")]
    Link(#[source] LinkError),
    /// No answer in time.
    #[error("the shim did not answer in time")]
    Silent,
    /// The shim or the engine failed, and said in what.
    #[error("{0}")]
    Refused(#[source] Fault),
}

impl From<Fault> for ExecError {
    fn from(fault: Fault) -> Self {
        match fault.code {
            ErrorCode::COMMAND_NOT_FOUND => Self::CommandNotFound(fault.message),
            ErrorCode::NOT_EXECUTABLE => Self::NotExecutable(fault.message),
            ErrorCode::NO_SUCH_USER => Self::NoSuchUser(fault.message),
            ErrorCode::FROZEN => Self::Frozen(fault.message),
            ErrorCode::NOT_RUNNING => Self::NotRunning,
            _ => Self::Refused(fault),
        }
    }
}

impl From<LinkError> for ExecError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Ended(fault) => Self::from(fault),
            LinkError::TooOld(too_old) => Self::TooOld(too_old),
            error if error.means_gone() => Self::NotRunning,
            LinkError::TooLong(_) => Self::TooLong(error),
            error => Self::Link(error),
        }
    }
}

/// Why input can't be written, or a running process not be told something.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The process, or the workload, has ended.
    #[error("the process has ended")]
    Ended,
    /// It was started without a standard input, or that was closed before.
    #[error("the standard input is not open")]
    NotOpen,
    /// The shim can't be spoken with.
    #[error("the shim can't be spoken with")]
    Link(#[source] LinkError),
    /// The shim is too old for this.
    #[error(transparent)]
    TooOld(ShimTooOld),
    /// The shim could not be spoken with any more, as somebody else found before.
    #[error("the shim can't be spoken with any more: {0}")]
    Broken(String),
    /// The shim refused.
    #[error("{0}")]
    Refused(#[source] Fault),
}

impl From<Fault> for InputError {
    fn from(fault: Fault) -> Self {
        match fault.code {
            ErrorCode::NOT_OPEN => Self::NotOpen,
            ErrorCode::NOT_RUNNING => Self::Ended,
            _ => Self::Refused(fault),
        }
    }
}

impl From<LinkError> for InputError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Ended(fault) => Self::Refused(fault),
            LinkError::TooOld(too_old) => Self::TooOld(too_old),
            error if error.means_gone() => Self::Ended,
            error => Self::Link(error),
        }
    }
}

/// A shim that ended without leaving an exit record: nobody knows how the workload ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the shim vanished without a word on how the workload ended")]
pub struct ShimVanished;
