//! The stand-in of a process that was executed in a guest: it asks for it, reports, and relays until it has ended.

use std::{fs, os::unix::net::UnixStream, path::Path, process::ExitCode};

use hypercore_wire::{
    ErrorCode,
    message::{Exec, Exit, Fault, Size},
};

use super::{
    monitor, peer,
    relay::Relay,
    signals::{self, Signals},
    streams::Streams,
};
use crate::{
    engine::{self, Container, engine_failure, report_fd::ReportFd},
    process::ProcessRequest,
    report::{Failure, FailureCode, Report},
};

/// Executes the request in `process`.
pub(super) fn run(
    container: &Container,
    process: &Path,
    report_fd: i32,
    console_socket: Option<&Path>,
) -> ExitCode {
    let report = match ReportFd::take(report_fd) {
        Ok(report) => report,
        Err(error) => return engine::complain(2, &error),
    };
    let begun = Signals::block().map_err(|error| engine_failure("signals can't be taken", &error)).and_then(
        |signals| {
            let streams = Streams::open(console_socket);
            let streams = streams.map_err(|error| engine_failure("its streams can't be opened", &error))?;
            Ok((connect(container, process)?, streams, signals))
        },
    );
    match begun {
        Ok((relay, streams, signals)) => {
            let pid = i32::try_from(std::process::id()).unwrap_or(i32::MAX);
            if let Err(error) = report.write(&Report::Pid(pid)) {
                return engine::complain(1, &error);
            }
            // The machine went away: it takes its processes along, as by SIGKILL.
            end(relay.run(streams, signals).unwrap_or(Exit::Signal(9)))
        }
        Err(failure) => match report.write(&Report::Error(failure)) {
            Ok(()) => ExitCode::FAILURE,
            Err(error) => engine::complain(1, &error),
        },
    }
}

fn connect(container: &Container, process: &Path) -> Result<Relay, Failure> {
    let bytes = fs::read(process).map_err(|error| engine_failure("the request can't be read", &error))?;
    let request: ProcessRequest = serde_json::from_slice(&bytes)
        .map_err(|error| engine_failure("the request can't be read", &error))?;
    let gone = |error: &dyn std::error::Error| engine_failure("the machine can't be reached", error);
    let stream = UnixStream::connect(monitor::socket(container)).map_err(|error| gone(&error))?;
    let (sender, mut receiver) = peer::split(stream).map_err(|error| gone(&error))?;
    peer::greet(&sender, &mut receiver).map_err(|error| gone(&error))?;
    let mut relay = Relay::new(sender, receiver);
    relay.start(exec(request)).map_err(failure)?;
    Ok(relay)
}

fn exec(request: ProcessRequest) -> Exec {
    let size = request.size.map(|size| Size { rows: size.rows, columns: size.columns });
    Exec {
        argv: request.argv,
        env: request.env,
        cwd: request.workdir,
        user: request.user,
        tty: request.tty,
        // The shim gives a null device where no input was asked for, which ends at once.
        stdin: true,
        size,
    }
}

/// What the guest says of a start that failed, as the shim understands it.
pub(super) fn failure(fault: Fault) -> Failure {
    let code = match fault.code {
        ErrorCode::COMMAND_NOT_FOUND => FailureCode::CommandNotFound,
        ErrorCode::NOT_EXECUTABLE => FailureCode::NotExecutable,
        ErrorCode::NO_SUCH_USER => FailureCode::NoSuchUser,
        ErrorCode::FROZEN => FailureCode::Frozen,
        ErrorCode::NOT_RUNNING => FailureCode::NotRunning,
        _ => FailureCode::Engine,
    };
    Failure { code, message: fault.message }
}

/// Ends as the process in the guest did.
pub(super) fn end(exit: Exit) -> ExitCode {
    match exit {
        Exit::Code(code) => ExitCode::from(code),
        Exit::Signal(number) => {
            signals::end_by(number);
            ExitCode::from(128u8.saturating_add(number))
        }
        Exit::OutOfMemory => {
            signals::end_by(9);
            ExitCode::from(137)
        }
    }
}
