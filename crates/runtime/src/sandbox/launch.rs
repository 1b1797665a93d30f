//! Starting a shim. The agent's end of a socket pair is the shim's first connection, so that the answer to the first
//! question is the outcome of the launch, and a shim that fails before it listens can still say why.
//! It refuses to clean up after a failure: [`super::Sandboxes::destroy`] does.

use std::{
    fs::DirBuilder,
    io,
    os::{fd::OwnedFd, unix::fs::DirBuilderExt, unix::net::UnixStream as StdStream},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use hypercore_model::{Attempt, WorkloadId};
use hypercore_wire::{ErrorCode, message::State};
use tokio::{net::UnixStream, process::Command};

use super::{
    Sandbox, Sandboxes,
    error::{LaunchError, RequestError},
    handle::{read_exit_record, remove_exit_record},
    link::{Link, LinkError},
    socket,
};

/// How long a shim may take besides what its engine may. Usually that is some milliseconds; a machine that starves or
/// swaps gets the rest.
const LAUNCH_TIME_MAX: Duration = Duration::from_secs(10);

/// How much of a workload's output is kept on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    /// A log file that has reached this length is followed by a new one, in bytes.
    pub file_bytes_max: u64,
    /// When there are more files than this, the oldest is removed.
    pub files_max: u32,
}

impl Default for LogLimits {
    /// 5 files of 10 MiB.
    fn default() -> Self {
        Self { file_bytes_max: 10 * 1024 * 1024, files_max: 5 }
    }
}

/// What holds a workload's processes: one engine each, with the same command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// `hypercore-engine`: the bundle in the workload's directory.
    Container,
    /// `hypercore-vmm`: the machine that [`Sandboxes::machine_directory`] specifies.
    Machine,
}

/// What it takes to launch a workload.
#[derive(Debug, Clone)]
pub struct LaunchRequest {
    /// Whose sandbox it is.
    pub id: WorkloadId,
    /// Which attempt at running it.
    pub attempt: Attempt,
    /// The workload's own directory, with the bundle in it; `log/` and `exit.json` are written there.
    pub directory: PathBuf,
    /// What holds its processes.
    pub engine: Engine,
    /// Whether the bundle gives the first process a terminal.
    pub tty: bool,
    /// Keep the first process's standard input open; it reads end of file at once otherwise.
    pub stdin_open: bool,
    /// The file of the workload's memory cgroup whose `oom_kill` line counts what the kernel killed in it.
    /// Without one, a kill for lack of memory looks like any SIGKILL.
    pub oom_events: Option<PathBuf>,
    /// How long the engine may take to start the first process.
    pub start_time_max: Duration,
    /// How much output is kept.
    pub log: LogLimits,
}

pub(super) async fn launch(sandboxes: &Sandboxes, request: LaunchRequest) -> Result<Sandbox, LaunchError> {
    let path = sandboxes.socket(request.id);
    make_private_directories(&sandboxes.shim_directory())?;
    make_private_directories(&sandboxes.engine_root(request.engine))?;
    if socket::connect(&path).await.is_ok() {
        return Err(LaunchError::AlreadyLaunched);
    }
    remove_exit_record(&request.directory).map_err(LaunchError::StaleRecord)?;
    let launched = tokio::time::timeout(request.start_time_max + LAUNCH_TIME_MAX, async {
        let stream = spawn(sandboxes, &request).await?;
        let link = Link::greet(stream).await.map_err(lost)?;
        let described = Sandbox::describe(request.id, &link, path, request.directory.clone()).await;
        described.map_err(|error| match error {
            RequestError::Refused(fault) => LaunchError::from(fault),
            RequestError::Link(error) => lost(error),
            RequestError::TooOld(too_old) => LaunchError::Link(LinkError::TooOld(too_old)),
            RequestError::Gone | RequestError::Silent | RequestError::Foreign { .. } => {
                LaunchError::Link(LinkError::Closed)
            }
        })
    });
    match launched.await.unwrap_or(Err(LaunchError::Silent)) {
        Err(error) => ended_already(sandboxes, &request, &error).ok_or(error),
        launched => launched,
    }
}

/// The sandbox of a workload that was over before its shim could be asked what it holds, as short commands are: the
/// shim is gone or has nothing to describe, but it left a record, and any record of an earlier attempt was removed.
fn ended_already(sandboxes: &Sandboxes, request: &LaunchRequest, error: &LaunchError) -> Option<Sandbox> {
    let may_be_over = match error {
        LaunchError::Link(_) => true,
        LaunchError::Refused(fault) => fault.code == ErrorCode::NOT_RUNNING,
        _ => false,
    };
    let record = may_be_over.then(|| read_exit_record(&request.directory).ok()?).flatten()?;
    let state = State {
        id: request.id.to_string(),
        attempt: request.attempt.number(),
        // Nobody's any more: the process has been reaped.
        pid: 0,
        started_at_ms: record.started_at.unix_ms(),
        tty: request.tty,
        stdin_open: request.stdin_open,
    };
    Some(Sandbox::described(request.id, sandboxes.socket(request.id), request.directory.clone(), state))
}

/// A fault of the connection is what a shim says that fails before it serves.
fn lost(error: LinkError) -> LaunchError {
    match error {
        LinkError::Ended(fault) => LaunchError::from(fault),
        error => LaunchError::Link(error),
    }
}

/// Starts the shim, with its first connection as standard input. The process started here ends as soon as it has
/// forked off the resident one, which is nobody's child.
async fn spawn(sandboxes: &Sandboxes, request: &LaunchRequest) -> Result<UnixStream, LaunchError> {
    let program = &sandboxes.shim_binary;
    let failed = |source| LaunchError::SpawnShim { program: program.clone(), source };
    let (ours, theirs) = StdStream::pair().map_err(failed)?;
    ours.set_nonblocking(true).map_err(failed)?;
    let ours = UnixStream::from_std(ours).map_err(failed)?;
    let mut command = Command::new(program);
    command
        .args(["--id", &request.id.to_string()])
        .args(["--attempt", &request.attempt.number().to_string()])
        .arg("--directory")
        .arg(&request.directory)
        .arg("--socket")
        .arg(sandboxes.socket(request.id))
        .arg("--engine")
        .arg(sandboxes.engine(request.engine))
        .arg("--engine-root")
        .arg(sandboxes.engine_root(request.engine))
        .args(["--log-file-bytes-max", &request.log.file_bytes_max.to_string()])
        .args(["--log-files-max", &request.log.files_max.to_string()])
        .args(["--start-time-max-ms", &request.start_time_max.as_millis().to_string()])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Some(oom_events) = &request.oom_events {
        command.arg("--oom-events").arg(oom_events);
    }
    for (flag, wanted) in [("--tty", request.tty), ("--stdin-open", request.stdin_open)] {
        if wanted {
            command.arg(flag);
        }
    }
    let mut child = command.spawn().map_err(failed)?;
    // The command holds the other end open; without it, a shim that dies leaves an end of file.
    drop(command);
    let status = child.wait().await.map_err(failed)?;
    if status.success() { Ok(ours) } else { Err(LaunchError::ShimEnded(status)) }
}

fn make_private_directories(path: &Path) -> Result<(), LaunchError> {
    let made: io::Result<()> = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| LaunchError::Directory { path: path.to_owned(), source })
}
