//! The way into a container that `create` and `exec` share: a child of the engine is born into the workload's cgroup,
//! goes on the stage, and lets `libcontainer` do the rest.
//! It refuses to leave a failure without words.

use libcontainer::error::LibcontainerError;

use super::{
    cgroup::Cgroup, children, engine_failure, fork, launcher::Launcher, seccomp, stage::Stage, verdict,
};
use crate::report::{Failure, FailureCode, Report};

/// Lets `build` make a process in `cgroup`, on `stage`; `stays` has the engine stay in it as init.
/// Gives the new process's id, and the receiver that tells when, or why not, it has become its program.
pub(super) fn run(
    cgroup: &Cgroup,
    stage: &Stage,
    stays: bool,
    build: impl FnOnce(Launcher) -> Result<i32, LibcontainerError>,
) -> Result<(i32, verdict::Receiver), Failure> {
    let (sender, mut receiver) =
        verdict::channel().map_err(|error| engine_failure("no pipe for the verdict", &error))?;
    let filter = seccomp::program().map_err(|error| engine_failure("no seccomp filter", &error))?;
    let launcher = Launcher::new(filter, sender, stays);
    let v2 = cgroup.open_v2().map_err(|error| engine_failure("the cgroup can't be opened", &error))?;
    let work = || {
        let outcome = enter(cgroup, stage).and_then(|()| {
            let built = build(launcher.clone());
            built.map_err(|error| engine_failure("the container can't be entered", &error))
        });
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

fn enter(cgroup: &Cgroup, stage: &Stage) -> Result<(), Failure> {
    cgroup.enter_v1().map_err(|error| engine_failure("the cgroup can't be entered", &error))?;
    stage.enter().map_err(|error| engine_failure("the stage can't be set", &error))
}
