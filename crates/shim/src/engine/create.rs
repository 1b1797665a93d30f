//! `create`: makes the container and starts its first process, in one go.
//! It refuses an id that is in use, and leaves nothing of a container that didn't start.

use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};

use libcontainer::{
    container::{Container as Made, builder::ContainerBuilder},
    error::LibcontainerError,
    syscall::syscall::SyscallType,
};
use nix::{
    errno::Errno,
    sys::wait::{WaitPidFlag, WaitStatus, waitpid},
};
use serde::Deserialize;

use super::{Container, cgroup::Cgroup, delete, engine_failure, launcher::Launcher, seccomp, verdict};
use crate::report::{Failure, FailureCode};

/// What this file itself has to know of `config.json`.
#[derive(Debug, Deserialize)]
struct Config {
    linux: Linux,
}

/// The part of [`Config`] about the kernel.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    cgroups_path: PathBuf,
}

/// Makes `container` of `bundle` and starts it; its first process's id.
pub(super) fn create(
    container: &Container,
    bundle: &Path,
    console_socket: Option<PathBuf>,
) -> Result<i32, Failure> {
    if container.directory().exists() {
        let message = format!("the container {} exists already", container.id);
        return Err(Failure { code: FailureCode::Engine, message });
    }
    let cgroup = cgroup_of(bundle)?;
    cgroup.enter_unified().map_err(|error| engine_failure("the cgroup can't be entered", &error))?;
    start(container, bundle, console_socket).map_err(|failure| undo(container, &cgroup, failure))
}

fn cgroup_of(bundle: &Path) -> Result<Cgroup, Failure> {
    let path = bundle.join("config.json");
    let file = File::open(&path).map_err(|error| engine_failure("config.json can't be opened", &error))?;
    let config: Config = serde_json::from_reader(BufReader::new(file))
        .map_err(|error| engine_failure("config.json can't be read", &error))?;
    Cgroup::at(&config.linux.cgroups_path).map_err(|error| engine_failure("the cgroup can't be used", &error))
}

fn start(container: &Container, bundle: &Path, console_socket: Option<PathBuf>) -> Result<i32, Failure> {
    let (sender, receiver) =
        verdict::channel().map_err(|error| engine_failure("no pipe for the verdict", &error))?;
    let filter = seccomp::program().map_err(|error| engine_failure("no seccomp filter", &error))?;
    let launcher = Launcher::new(filter, sender);
    let outcome = build(container, bundle, console_socket, launcher).and_then(|mut made| {
        made.start()?;
        made.pid().ok_or_else(|| LibcontainerError::Other("the engine noted no process".into()))
    });
    // A failure inside the container is told in full by the verdict only.
    receiver.wait()?;
    outcome.map(|pid| pid.as_raw()).map_err(|error| engine_failure("the container can't be made", &error))
}

fn build(
    container: &Container,
    bundle: &Path,
    console_socket: Option<PathBuf>,
    launcher: Launcher,
) -> Result<Made, LibcontainerError> {
    ContainerBuilder::new(container.id.clone(), SyscallType::Linux)
        .with_root_path(&container.root)?
        .with_console_socket(console_socket)
        .with_executor(launcher)
        .as_init(bundle)
        .with_systemd(false)
        .build()
}

/// Removes what a failed start left, and gives the failure back, with what couldn't be removed added to it.
fn undo(container: &Container, cgroup: &Cgroup, mut failure: Failure) -> Failure {
    let mut left = Vec::new();
    if let Err(error) = cgroup.leave_unified() {
        left.push(super::chain(&error));
    }
    if let Err(error) = delete::delete(container) {
        left.push(super::chain(&error));
    }
    // The state directory may not have got as far as naming the cgroup.
    if let Err(error) = cgroup.remove() {
        left.push(super::chain(&error));
    }
    reap();
    for text in left {
        failure.message.push_str("; afterwards: ");
        failure.message.push_str(&text);
    }
    failure
}

/// Takes the exit statuses of children that ended, so that no zombie goes to the shim unannounced.
fn reap() {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
            Ok(_) | Err(_) => {}
        }
    }
}
