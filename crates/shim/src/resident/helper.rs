//! One run of the engine that starts a process: its descriptors, its report, and the terminal if one is expected.
//! It refuses to wait: the report and the terminal are taken when they are there.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::{fs::OpenOptionsExt, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    fcntl::{FcntlArg, FdFlag, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::memfd::{MFdFlags, memfd_create},
    unistd::{Pid, pipe2},
};

use super::{
    arguments::Arguments,
    console::Console,
    detach::{as_children_shall_be, set_nonblocking},
    kernel,
};
use crate::{
    process::ProcessRequest,
    report::{Failure, FailureCode, Report},
};

/// How long the engine may take to execute a process. It needs some milliseconds; a stuck kernel or disk gets the rest.
const EXEC_TIME_MAX: Duration = Duration::from_secs(60);
/// Longest report, in bytes.
const REPORT_LEN_MAX: usize = 64 * 1024;

/// The shim's ends of a process's standard streams, non-blocking. With a terminal all are its master.
#[derive(Debug, Default)]
pub(super) struct Ends {
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
}

/// A process that runs.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) pid: Pid,
    /// The master of its terminal, if it has one.
    pub(super) terminal: Option<OwnedFd>,
}

/// A run of the engine whose report is awaited.
#[derive(Debug)]
pub(super) struct Helper {
    engine: Pid,
    report: File,
    line: Vec<u8>,
    console: Option<Console>,
    /// What was reported, until the terminal has come too.
    pid: Option<Pid>,
    time_max: Duration,
    deadline: Instant,
}

impl Helper {
    /// Has the engine create the workload and start its first process.
    pub(super) fn create(arguments: &Arguments) -> io::Result<(Self, Ends)> {
        let mut command = engine(arguments, "create");
        command.arg("--bundle").arg(&arguments.directory);
        let console = arguments.tty.then(|| arguments.socket.with_extension("tty"));
        Self::start(command, console.as_deref(), arguments.stdin_open, arguments.start_time_max)
    }

    /// Has the engine start one more process inside the workload. `number` tells executions apart.
    pub(super) fn exec(
        arguments: &Arguments,
        number: u32,
        request: &ProcessRequest,
        stdin_open: bool,
    ) -> io::Result<(Self, Ends)> {
        // In memory, so that a full disk stops nobody, and nothing is left behind.
        let mut file = File::from(memfd_create("process", MFdFlags::MFD_CLOEXEC)?);
        file.write_all(&serde_json::to_vec(request)?)?;
        make_inheritable(&file)?;
        let mut command = engine(arguments, "exec");
        command.arg("--process").arg(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let console = request.tty.then(|| arguments.socket.with_extension(format!("{number}.tty")));
        Self::start(command, console.as_deref(), stdin_open, EXEC_TIME_MAX)
    }

    fn start(
        mut command: Command,
        console: Option<&Path>,
        stdin_open: bool,
        time_max: Duration,
    ) -> io::Result<(Self, Ends)> {
        let console = console.map(Console::listen).transpose()?;
        let (report, report_write) = pipe2(OFlag::O_CLOEXEC)?;
        set_nonblocking(&report)?;
        make_inheritable(&report_write)?;
        command.arg("--report-fd").arg(report_write.as_raw_fd().to_string());
        let ends = match &console {
            Some(console) => {
                command.arg("--console-socket").arg(console.path());
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                Ends::default()
            }
            None => connect(&mut command, stdin_open)?,
        };
        let engine = as_children_shall_be(|| command.spawn())?;
        let engine = Pid::from_raw(i32::try_from(engine.id()).map_err(io::Error::other)?);
        let (report, line, deadline) = (File::from(report), Vec::new(), Instant::now() + time_max);
        Ok((Self { engine, report, line, console, pid: None, time_max, deadline }, ends))
    }

    /// What came of it, once that is known.
    pub(super) fn advance(&mut self) -> Option<Result<Started, Failure>> {
        if self.pid.is_none() {
            match self.read_report()? {
                Report::Pid(pid) => self.pid = Some(Pid::from_raw(pid)),
                Report::Error(failure) => return Some(Err(failure)),
            }
        }
        let pid = self.pid?;
        let Some(console) = &mut self.console else { return Some(Ok(Started { pid, terminal: None })) };
        match console.receive() {
            Ok(terminal) => Some(Ok(Started { pid, terminal: Some(terminal?) })),
            Err(error) => Some(Err(failure(format!("its terminal did not come: {error}")))),
        }
    }

    /// Waits for what comes of it, and undoes that: for a shim that can't go on.
    pub(super) fn undo(mut self) {
        loop {
            match self.advance() {
                Some(Ok(started)) => drop(kernel::kill(started.pid, nix::libc::SIGKILL)),
                Some(Err(_)) => {}
                None if self.deadline <= Instant::now() => drop(self.abort()),
                None => {
                    let mut awaited = [PollFd::new(self.awaited(), PollFlags::POLLIN)];
                    // Interrupted or over: what is there is looked at either way.
                    let _ =
                        poll(&mut awaited, PollTimeout::try_from(self.time_max).unwrap_or(PollTimeout::MAX));
                    continue;
                }
            }
            return;
        }
    }

    /// When to give up.
    pub(super) const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Gives up: the engine is killed.
    pub(super) fn abort(&self) -> Failure {
        // It may have ended by itself just now.
        let _ = kernel::kill(self.engine, nix::libc::SIGKILL);
        failure(format!("the engine did not report within {} seconds", self.time_max.as_secs()))
    }

    /// What to poll for reading: the report first, then the terminal.
    pub(super) fn awaited(&self) -> BorrowedFd<'_> {
        match &self.console {
            Some(console) if self.pid.is_some() => console.as_fd(),
            _ => self.report.as_fd(),
        }
    }

    fn read_report(&mut self) -> Option<Report> {
        let mut buffer = [0; 512];
        while self.line.len() <= REPORT_LEN_MAX {
            match self.report.read(&mut buffer) {
                Ok(0) => break,
                Ok(len) => self.line.extend_from_slice(&buffer[..len]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(_) => break,
            }
            if self.line.ends_with(b"\n") {
                break;
            }
        }
        let report = serde_json::from_slice(&self.line);
        Some(
            report.unwrap_or_else(|_| Report::Error(failure("the engine ended without a report".to_owned()))),
        )
    }
}

/// Opens the engine's program and makes `arguments` name what was opened, for as long as the file is kept. So a shim that
/// outlives an upgrade goes on with the engine it began with: what they say to each other may change between releases.
pub(super) fn hold_engine(arguments: &mut Arguments) -> io::Result<File> {
    let flags = (OFlag::O_PATH | OFlag::O_CLOEXEC).bits();
    let file = File::options().read(true).custom_flags(flags).open(&arguments.engine)?;
    // Not of `self`: should it be a script, its interpreter has to find it too.
    arguments.engine = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()));
    Ok(file)
}

fn engine(arguments: &Arguments, action: &str) -> Command {
    let mut command = Command::new(&arguments.engine);
    command.arg0("hypercore-engine").env_clear().arg(action).arg("--root").arg(&arguments.engine_root);
    command.arg("--id").arg(arguments.id.to_string());
    command
}

/// Gives the process pipes for its standard streams, and the null device where nothing is wanted.
fn connect(command: &mut Command, stdin_open: bool) -> io::Result<Ends> {
    let mut ends = Ends::default();
    if stdin_open {
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        set_nonblocking(&write)?;
        command.stdin(Stdio::from(read));
        ends.stdin = Some(write);
    } else {
        command.stdin(Stdio::null());
    }
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    set_nonblocking(&read)?;
    command.stdout(Stdio::from(write));
    ends.stdout = Some(read);
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    set_nonblocking(&read)?;
    command.stderr(Stdio::from(write));
    ends.stderr = Some(read);
    Ok(ends)
}

/// Lets the next program that is started have this descriptor. The caller closes its own right after.
fn make_inheritable(fd: impl AsFd) -> nix::Result<()> {
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty())).map(drop)
}

const fn failure(message: String) -> Failure {
    Failure { code: FailureCode::Engine, message }
}
