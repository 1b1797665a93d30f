//! The way into a container that `create` and `exec` share: a child of the engine is born into the workload's cgroup,
//! and goes on from there, mostly on the stage, where `libcontainer` does the rest.
//! It refuses to leave a failure without words.

use std::{io, os::fd::AsFd};

use libcontainer::{
    error::LibcontainerError,
    oci_spec::runtime::{LinuxIdMapping, User},
};
use nix::{
    errno::Errno,
    sys::stat::{SFlag, fstat},
    unistd::{Gid, Uid, fchown},
};

use super::{
    cgroup::Cgroup, children, engine_failure, fork, launcher::Launcher, seccomp, stage::Stage, verdict,
};
use crate::report::{Failure, FailureCode, Report};

/// Lets `make` make a process in `cgroup`; `stays` has the engine stay in it as init.
/// Gives the new process's id, and the receiver that tells when, or why not, it has become its program.
pub(super) fn run(
    cgroup: &Cgroup,
    stays: bool,
    make: impl FnOnce(Launcher) -> Result<i32, Failure>,
) -> Result<(i32, verdict::Receiver), Failure> {
    let (sender, mut receiver) =
        verdict::channel().map_err(|error| engine_failure("no pipe for the verdict", &error))?;
    let filter = seccomp::program().map_err(|error| engine_failure("no seccomp filter", &error))?;
    let launcher = Launcher::new(filter, sender, stays);
    let v2 = cgroup.open_v2().map_err(|error| engine_failure("the cgroup can't be opened", &error))?;
    let work = || {
        let entered = cgroup.enter_v1();
        let outcome = entered.map_err(|error| engine_failure("the cgroup can't be entered", &error));
        let outcome = outcome.and_then(|()| make(launcher.clone()));
        let is_ok = outcome.is_ok();
        if !is_ok {
            children::end();
        }
        launcher.tell(outcome.map_or_else(Report::Error, Report::Pid));
        is_ok
    };
    let ended = fork::run(v2.as_ref(), work);
    // The last sender of this process: from now on the receiver ends with the processes inside.
    drop(launcher);
    match (ended, receiver.next()) {
        (_, Some(Report::Error(failure))) => Err(failure),
        (Ok(true), Some(Report::Pid(pid))) => Ok((pid, receiver)),
        (Ok(_), _) => {
            let message = "the helper's child ended without a word".to_owned();
            Err(Failure { code: FailureCode::Engine, message })
        }
        (Err(error), _) => Err(engine_failure("the helper's child failed", &error)),
    }
}

/// Goes on `stage` and lets `libcontainer` `build` the process there.
pub(super) fn on_stage(
    stage: &Stage,
    build: impl FnOnce() -> Result<i32, LibcontainerError>,
) -> Result<i32, Failure> {
    stage.enter().map_err(|error| engine_failure("the stage can't be set", &error))?;
    build().map_err(|error| engine_failure("the container can't be entered", &error))
}

/// Gives the standard streams to the `user` who will use them, so that it can open `/dev/stdout` and the like, which
/// lead to them. Devices are nobody's.
///
/// # Errors
/// The kernel refused it, for another reason than that the stream's file system knows no owners.
pub(super) fn give_streams(user: &User, mapping: Option<LinuxIdMapping>) -> io::Result<()> {
    let outside = |id: u32| mapping.map_or(id, |mapping| mapping.host_id().saturating_add(id));
    let owner = (Uid::from_raw(outside(user.uid())), Gid::from_raw(outside(user.gid())));
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let streams: [&dyn AsFd; 3] = [&stdin, &stdout, &stderr];
    for stream in streams {
        let kind = SFlag::from_bits_truncate(fstat(stream)?.st_mode) & SFlag::S_IFMT;
        if kind == SFlag::S_IFCHR || kind == SFlag::S_IFBLK {
            continue;
        }
        match fchown(stream, Some(owner.0), Some(owner.1)) {
            Ok(()) | Err(Errno::EINVAL | Errno::EPERM | Errno::EROFS) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}
