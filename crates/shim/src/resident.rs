//! The resident shim: the process that holds one workload's streams, log and end, and outlives the agent.
//!
//! ```text
//!   agent --wire--> clients --+                          +--> helper: a run of hypercore-engine
//!                             |                          |
//!   SIGCHLD ------> signals --+--> one loop around poll -+--> processes: the first one, and executions
//!                             |                          |      stdin <- input      output -> log, or the asker
//!   timeouts -----------------+                          +--> exit.json, the last word
//! ```
//!
//! One thread, one loop, no runtime: what is polled for is worked out anew each time from what every part is ready to
//! do, which is all the flow control there is. Memory is counted in pages, because there is a shim for each workload.
//!
//! Invariants:
//! - Nothing blocks but writes to the log and to `exit.json`, which go to a disk.
//! - Whatever a client does or doesn't, the workload and its log go on; whatever it sends, memory stays bounded.
//! - `exit.json` is durable before anybody is told of the end, and the socket vanishes after it.
//! - When the shim ends, the workload's first process has been reaped.
//!
//! Reading order: [`run`], `reactor`, `requests`, `lifecycle`, then the parts.

mod arguments;
mod client;
mod console;
mod detach;
mod exit_record;
mod helper;
mod input;
mod kernel;
mod lifecycle;
mod listener;
mod log_writer;
mod oom;
mod output;
mod process;
mod reactor;
mod requests;
mod text;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::File,
    io::{self, Write},
    os::unix::net::UnixStream,
    process::ExitCode,
    time::{Duration, Instant},
};

use hypercore_wire::{
    ErrorCode, Flags, Message, StreamId,
    message::{Exit, Exited, Fault, State},
    negotiation::greeting,
};
use nix::{sys::signalfd::SignalFd, unistd::Pid};

use self::{
    arguments::Arguments,
    client::{Client, ClientId},
    detach::Side,
    exit_record::ExitRecordFile,
    helper::Helper,
    listener::Listener,
    log_writer::{Limits, LogWriter},
    oom::OomCounter,
    process::{Process, ProcessId, Sink},
};

/// The client that the shim was started with.
const LAUNCHER: ClientId = ClientId(0);
/// How long clients get to take in what was said last, when the shim has nothing else to do.
const FAREWELL_TIME_MAX: Duration = Duration::from_secs(10);

/// Why a shim could not begin to serve.
#[derive(Debug, thiserror::Error)]
enum BeginError {
    #[error("the shim can't receive signals: {0}")]
    Signals(#[source] io::Error),
    #[error("the log can't be opened: {0}")]
    Log(#[source] io::Error),
    #[error("there is no room for the exit record: {0}")]
    ExitRecord(#[source] io::Error),
    #[error("the shim's socket can't be listened on: {0}")]
    Listen(#[source] io::Error),
    #[error("the engine can't be started: {0}")]
    Engine(#[source] io::Error),
}

/// How far the workload is, for those who ask.
#[derive(Debug)]
enum Standing {
    /// The engine is at work.
    Starting,
    /// It could not be started, for this reason.
    Failed(Fault),
    /// Its first process runs.
    Running(State),
    /// It ended, and the record is on disk.
    Ended(State, Exited),
}

/// Everything the shim holds.
#[derive(Debug)]
struct Resident {
    arguments: Arguments,
    /// What `arguments.engine` names.
    _engine: File,
    signals: SignalFd,
    /// Gone when the workload is.
    listener: Option<Listener>,
    clients: BTreeMap<ClientId, Client>,
    last_client: ClientId,
    processes: BTreeMap<ProcessId, Process>,
    last_process: ProcessId,
    /// Children that were reaped while an engine was at work whose report may name them.
    unclaimed: Vec<(Pid, Exit)>,
    standing: Standing,
    /// Whether the launcher has its answer.
    is_launch_told: bool,
    /// Who asked what the shim holds, before that was known.
    describing: Vec<(ClientId, StreamId)>,
    /// Who waits for the end.
    waiting: Vec<(ClientId, StreamId)>,
    log: LogWriter,
    exit_record: Option<ExitRecordFile>,
    oom: OomCounter,
    /// When to end at the latest, once the workload has.
    farewell_at: Option<Instant>,
}

/// Runs `hypercore-shim` with the arguments after the program's name and its first client as standard input. Returns
/// at once in the process the caller waits for, and after the workload's end in the resident one.
/// Exit codes: 0 done, 1 the resident process can't be split off, 2 wrong usage.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let complain = |code: u8, error: &dyn std::error::Error| {
        // Nobody is left to tell if standard error is closed.
        let _ = writeln!(io::stderr(), "hypercore-shim: {error}");
        ExitCode::from(code)
    };
    let arguments = match Arguments::parse(arguments) {
        Ok(arguments) => arguments,
        Err(error) => return complain(2, &error),
    };
    let connection = match detach::detach() {
        Ok(Side::Starter) => return ExitCode::SUCCESS,
        Ok(Side::Resident(connection)) => connection,
        Err(error) => return complain(1, &error),
    };
    let last_words = connection.try_clone();
    match Resident::begin(arguments, connection) {
        Ok(resident) => resident.serve(),
        Err(error) => {
            if let Ok(connection) = last_words {
                give_up(connection, &error);
            }
        }
    }
    ExitCode::SUCCESS
}

/// Tells the agent why nothing was begun. The socket's buffer has room for that, so nobody has to wait.
fn give_up(mut connection: UnixStream, error: &BeginError) {
    let mut bytes = Vec::new();
    let fault = Fault::new(ErrorCode::INTERNAL, error.to_string());
    for message in [Message::from(greeting()), Message::from(fault)] {
        let encoded = message.encode_to(StreamId::CONNECTION, Flags::NONE, &mut bytes);
        encoded.expect("a greeting and one sentence fit into frames");
    }
    // An agent that is gone will find out by itself.
    let _ = connection.write_all(&bytes);
}

/// What the shim keeps in the file system.
struct Files {
    log: LogWriter,
    exit_record: ExitRecordFile,
    listener: Listener,
}

impl Files {
    fn open(arguments: &Arguments) -> Result<Self, BeginError> {
        let limits =
            Limits { file_bytes_max: arguments.log_file_bytes_max, files_max: arguments.log_files_max };
        Ok(Self {
            log: LogWriter::open(arguments.directory.join("log"), limits).map_err(BeginError::Log)?,
            exit_record: ExitRecordFile::reserve(&arguments.directory).map_err(BeginError::ExitRecord)?,
            listener: Listener::bind(&arguments.socket).map_err(BeginError::Listen)?,
        })
    }
}

impl Resident {
    /// Has the engine start the workload, and opens everything else meanwhile.
    fn begin(mut arguments: Arguments, connection: UnixStream) -> Result<Self, BeginError> {
        let signals = detach::signals().map_err(BeginError::Signals)?;
        let engine = helper::hold_engine(&mut arguments).map_err(BeginError::Engine)?;
        let (helper, ends) = Helper::create(&arguments).map_err(BeginError::Engine)?;
        let Files { log, exit_record, listener } = match Files::open(&arguments) {
            Ok(files) => files,
            Err(error) => {
                helper.undo();
                return Err(error);
            }
        };
        let first = Process::starting(helper, ends, Sink::Log, arguments.stdin_open);
        Ok(Self {
            oom: OomCounter::new(arguments.oom_events.clone()),
            arguments,
            _engine: engine,
            signals,
            listener: Some(listener),
            clients: BTreeMap::from([(LAUNCHER, Client::new(connection))]),
            last_client: LAUNCHER,
            processes: BTreeMap::from([(ProcessId::FIRST, first)]),
            last_process: ProcessId::FIRST,
            unclaimed: Vec::new(),
            standing: Standing::Starting,
            is_launch_told: false,
            describing: Vec::new(),
            waiting: Vec::new(),
            log,
            exit_record: Some(exit_record),
            farewell_at: None,
        })
    }
}
