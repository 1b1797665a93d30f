//! `hypercore-vmm probe DIRECTORY`: boots the machine that is specified in the directory to see whether its guest
//! answers, says so on standard output, and ends it; before that, when whoever asked hangs up at its standard input.
//! It refuses to prepare the guest and to run anything in it.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
};

use hypercore_model::machine::MachineSpec;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::Serialize;

use super::{
    boot::{self, BootError},
    monitor,
    vmm::{self, Place},
};
use crate::{engine, report::Failure};

/// Most characters of a console that are told.
const CONSOLE_LEN_MAX: usize = 300;

/// What came of it, as one line of JSON.
#[derive(Debug, Serialize)]
struct Told {
    /// Why the guest didn't answer; `None` when it did.
    fault: Option<String>,
}

/// Why nothing was tried.
#[derive(Debug, thiserror::Error)]
enum ProbeError {
    /// Its command line.
    #[error("probe takes one absolute directory")]
    Usage,
    /// The machine can't be specified so, or its engine can't be started.
    #[error("{}", .0.message)]
    Machine(Failure),
    /// Nobody could be told.
    #[error("the result can't be written")]
    Write(#[from] io::Error),
}

/// Tries it. 0 says that there is a result.
pub(super) fn run(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let directory = arguments.next().map(PathBuf::from).filter(|path| path.is_absolute());
    let tried = match (directory, arguments.next()) {
        (Some(directory), None) => attempt(&directory),
        _ => return engine::complain(2, &ProbeError::Usage),
    };
    match tried {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => engine::complain(1, &error),
    }
}

fn attempt(directory: &Path) -> Result<(), ProbeError> {
    let spec = monitor::read(directory).map_err(ProbeError::Machine)?;
    let told = Told { fault: boot(&spec, directory)? };
    let line = serde_json::to_string(&told).map_err(io::Error::from)?;
    Ok(io::Write::write_all(&mut io::stdout(), line.as_bytes())?)
}

/// Ends the machine when who asked is gone. The kernel would do that for a parent's death, but not for an engine that
/// became another user.
fn watch(machine: Pid) {
    thread::spawn(move || {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        // It is reaped a moment before this program ends, and not earlier.
        let _ = kill(machine, Signal::SIGKILL);
    });
}

/// Why the guest didn't answer, if it didn't.
fn boot(spec: &MachineSpec, directory: &Path) -> Result<Option<String>, ProbeError> {
    let vmm = vmm::of(spec.monitor);
    let place = Place::within(directory.to_owned());
    let mut process = monitor::start(spec, vmm, &place, None).map_err(ProbeError::Machine)?;
    watch(Pid::from_raw(i32::try_from(process.id()).map_err(io::Error::other)?));
    let heard = boot::hear(spec, vmm, &place, &mut process);
    monitor::end_now(&mut process);
    Ok(heard.err().map(|error| explain(&error, &spec.console_log)))
}

/// An engine that can't go on says why on its standard error, or where its guest would write.
fn explain(error: &BootError, console_log: &Path) -> String {
    let (told, console) = (engine::chain(error), boot::console_tail(console_log));
    if console.is_empty() || matches!(error, BootError::Silent(_)) {
        return told;
    }
    let console: String = console.chars().take(CONSOLE_LEN_MAX).collect();
    format!("{told}; its console ends with: {console}")
}
