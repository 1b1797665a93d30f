//! `create`: makes the container and starts its first process, in one go.
//! It refuses an id that is in use, and leaves nothing of a container that didn't start.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::{
    Container,
    cgroup::Cgroup,
    delete, engine_failure, inside,
    launcher::Launcher,
    mapped::Mapped,
    own_program,
    stage::{self, Brought, Stage},
    user_namespace,
};
use crate::report::{Failure, FailureCode};
use libcontainer::{
    container::{Container as Made, builder::ContainerBuilder},
    error::LibcontainerError,
    oci_spec::runtime::{LinuxIdMapping, LinuxResources, Spec, User},
    syscall::syscall::SyscallType,
};

/// Says in a runtime spec that the engine is to stay as the container's first process.
const INIT_ANNOTATION: &str = "hypercore.init";

/// A container to be made.
#[derive(Debug)]
struct Plan<'a> {
    container: &'a Container,
    cgroup: Cgroup,
    resources: LinuxResources,
    stage: Stage,
    /// Whose process it is, by the container's ids.
    user: User,
    mapping: Option<LinuxIdMapping>,
    console_socket: Option<PathBuf>,
    /// The engine is to stay as the container's init.
    stays: bool,
    may_be_traced: bool,
}

/// Makes `container` of `bundle` and starts it; its first process's id.
pub(super) fn create(
    container: &Container,
    bundle: &Path,
    console_socket: Option<PathBuf>,
    report_fd: i32,
) -> Result<i32, Failure> {
    if container.directory().exists() {
        let message = format!("the container {} exists already", container.id);
        return Err(Failure { code: FailureCode::Engine, message });
    }
    let plan = Plan::read(container, bundle, console_socket)?;
    if plan.stays || plan.may_be_traced {
        own_program::protect(report_fd)
            .map_err(|error| engine_failure("the engine's program can't be protected", &error))?;
    }
    plan.start().map_err(|failure| plan.undo(failure))
}

impl<'a> Plan<'a> {
    fn read(
        container: &'a Container,
        bundle: &Path,
        console_socket: Option<PathBuf>,
    ) -> Result<Self, Failure> {
        let mut spec = Spec::load(bundle.join("config.json"))
            .map_err(|error| engine_failure("config.json can't be read", &error))?;
        let linux = spec.linux().clone().unwrap_or_default();
        let cgroup = Cgroup::at(&linux.cgroups_path().clone().unwrap_or_default())
            .map_err(|error| engine_failure("the cgroup can't be used", &error))?;
        let resources = linux.resources().clone().unwrap_or_default();
        let annotations = spec.annotations().as_ref();
        let stays = annotations.and_then(|notes| notes.get(INIT_ANNOTATION)).is_some_and(|is| is == "true");
        let user = spec.process().as_ref().map(|process| process.user().clone()).unwrap_or_default();
        let mapping = user_namespace::mapping_of(&spec);
        let may_be_traced = spec.process().as_ref().is_some_and(own_program::may_be_traced);
        let mapped = Mapped::adapt(&mut spec);
        let (spec, mut brought) = stage::adapt(spec, bundle);
        brought.extend(mapped.iter().flat_map(|_| Mapped::brought()));
        let config = serde_json::to_vec(&spec)
            .map_err(|error| engine_failure("config.json can't be changed", &error))?;
        brought.push(Brought::as_it_is(&container.root));
        brought.extend(console_socket.as_deref().map(Brought::as_it_is));
        let stage = Stage { config, brought, mapped };
        Ok(Self { container, cgroup, resources, stage, user, mapping, console_socket, stays, may_be_traced })
    }

    fn start(&self) -> Result<i32, Failure> {
        self.cgroup.make().map_err(|error| engine_failure("the cgroup can't be made", &error))?;
        let (pid, verdict) = inside::run(&self.cgroup, self.stays, |launcher| {
            inside::give_streams(&self.user, self.mapping)
                .map_err(|error| engine_failure("the standard streams can't be given away", &error))?;
            inside::on_stage(&self.stage, || self.build(launcher))
        })?;
        self.container
            .write_config(&self.stage.config)
            .map_err(|error| engine_failure("the container's notes can't be written", &error))?;
        self.cgroup
            .limit(&self.resources)
            .map_err(|error| engine_failure("the limits can't be set", &error))?;
        let started = Made::load(self.container.directory()).and_then(|mut made| made.start());
        // What the process itself says is nearer to the cause.
        verdict.end()?;
        started.map(|()| pid).map_err(|error| engine_failure("the container can't be started", &error))
    }

    fn build(&self, launcher: Launcher) -> Result<i32, LibcontainerError> {
        let made = ContainerBuilder::new(self.container.id.clone(), SyscallType::Linux)
            .with_root_path(&self.container.root)?
            .with_console_socket(self.console_socket.clone())
            .with_executor(launcher)
            .as_init(stage::BUNDLE)
            .with_systemd(false)
            .build()?;
        let missing = || LibcontainerError::Other("libcontainer noted no process".into());
        made.pid().map(|pid| pid.as_raw()).ok_or_else(missing)
    }

    /// Removes what a failed start left, and gives the failure back, with what couldn't be removed added to it.
    fn undo(&self, mut failure: Failure) -> Failure {
        // First the cgroup: as long as a process of it lives, it may write into the state directory.
        let cgroup = self.cgroup.remove().map_err(|error| super::chain(&error));
        let state = delete::delete(self.container).map_err(|error| super::chain(&error));
        for left in [cgroup, state].into_iter().filter_map(Result::err) {
            failure.message.push_str("; afterwards: ");
            failure.message.push_str(&left);
        }
        failure
    }
}

impl Container {
    /// Keeps the runtime spec for later processes, whatever becomes of the bundle.
    fn write_config(&self, config: &[u8]) -> std::io::Result<()> {
        // It has the environment in it, which may be a secret.
        let mut options = fs::File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        options.open(self.config_path())?.write_all(config)
    }

    /// Where [`Self::write_config`] keeps it.
    pub(super) fn config_path(&self) -> PathBuf {
        self.directory().join("config.json")
    }
}
