//! `hypercore-vmm probe DIRECTORY`: boots the machine that is specified in the directory to see whether its guest
//! answers, says so on standard output, and ends it. It refuses to prepare the guest and to run anything in it.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use hypercore_model::machine::MachineSpec;
use nix::sys::{prctl, signal::Signal};
use serde::Serialize;

use super::{
    boot, monitor,
    vmm::{self, Place},
};
use crate::{engine, report::Failure};

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
    /// It could not be tied to who asked.
    #[error("it can't be tied to its parent")]
    Parent(#[from] nix::Error),
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
    // Nobody wants to know any more once who asked is gone; the machine goes with us in turn.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    let spec = monitor::read(directory).map_err(ProbeError::Machine)?;
    let told = Told { fault: boot(&spec, directory)? };
    let line = serde_json::to_string(&told).map_err(io::Error::from)?;
    Ok(io::Write::write_all(&mut io::stdout(), line.as_bytes())?)
}

/// Why the guest didn't answer, if it didn't.
fn boot(spec: &MachineSpec, directory: &Path) -> Result<Option<String>, ProbeError> {
    let vmm = vmm::of(spec.monitor);
    let place = Place::within(directory.to_owned());
    let mut process = monitor::start(spec, vmm, &place, None).map_err(ProbeError::Machine)?;
    let heard = boot::hear(spec, vmm, &place, &mut process);
    monitor::end_now(&mut process);
    Ok(heard.err().map(|error| engine::chain(&error)))
}
