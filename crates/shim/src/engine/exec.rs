//! `exec`: starts a further process in a running container, with the rights of its first one.
//! It refuses a container that is paused, because the process would hang before it began, and one that has ended.

use std::{
    fs::{self, File},
    io::{self, BufReader, Write},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use libcontainer::{
    container::{Container as Made, ContainerStatus, builder::ContainerBuilder},
    error::LibcontainerError,
    oci_spec::runtime::{Box as ConsoleSize, BoxBuilder as ConsoleSizeBuilder, Process, Spec},
    syscall::syscall::SyscallType,
};
use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    sys::{
        memfd::{MFdFlags, memfd_create},
        stat::Mode,
    },
};

use super::{
    Container, accounts,
    cgroup::Cgroup,
    engine_failure,
    entry::{Entry, EntryError},
    inside,
    launcher::Launcher,
    own_program,
    stage::{self, Brought, Stage},
    user_namespace, verdict,
};
use crate::{
    process::ProcessRequest,
    report::{Failure, FailureCode},
    terminal::TerminalSize,
};

/// Starts what the file `request` asks for in `container`; the new process's id.
pub(super) fn exec(
    container: &Container,
    request: &Path,
    console_socket: Option<PathBuf>,
    report_fd: i32,
) -> Result<i32, Failure> {
    let request = read_request(request)?;
    let init_pid = running(container)?;
    join(container, init_pid, request, console_socket, report_fd).map_err(|failure| {
        match running(container) {
            Ok(_) => failure,
            // It ended meanwhile, and that is why.
            Err(not_running) => not_running,
        }
    })
}

fn join(
    container: &Container,
    init_pid: i32,
    request: ProcessRequest,
    console_socket: Option<PathBuf>,
    report_fd: i32,
) -> Result<i32, Failure> {
    let config = fs::read(container.config_path())
        .map_err(|error| engine_failure("the container's notes can't be read", &error))?;
    let spec: Spec = serde_json::from_slice(&config)
        .map_err(|error| engine_failure("the container's notes can't be read", &error))?;
    if spec.process().as_ref().is_some_and(own_program::may_be_traced) {
        own_program::protect(report_fd)
            .map_err(|error| engine_failure("the engine's program can't be protected", &error))?;
    }
    let cgroups_path = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().clone());
    let cgroup = Cgroup::at(&cgroups_path.unwrap_or_default())
        .map_err(|error| engine_failure("the cgroup can't be used", &error))?;
    if cgroup.is_frozen() {
        let message = format!("the container {} is paused", container.id);
        return Err(Failure { code: FailureCode::Frozen, message });
    }
    let process = process(&spec, init_pid, request)?;
    inside::give_streams(process.user(), user_namespace::mapping_of(&spec))
        .map_err(|error| engine_failure("the standard streams can't be given away", &error))?;
    let verdict = match user_namespace::mapping_of(&spec) {
        Some(_) => enter(container, &cgroup, init_pid, spec, process, console_socket.as_deref()),
        None => build_on_stage(container, &cgroup, &spec, config, &process, console_socket),
    };
    let (pid, verdict) = verdict?;
    verdict.end()?;
    Ok(pid)
}

/// Lets `libcontainer` join the container.
fn build_on_stage(
    container: &Container,
    cgroup: &Cgroup,
    spec: &Spec,
    config: Vec<u8>,
    process: &Process,
    console_socket: Option<PathBuf>,
) -> Result<(i32, verdict::Receiver), Failure> {
    let process = in_memory(process).map_err(|error| engine_failure("no memory for the process", &error))?;
    let workspace =
        Workspace::make(container).map_err(|error| engine_failure("no place for the exec", &error))?;
    let file = PathBuf::from(format!("/proc/self/fd/{}", process.as_raw_fd()));
    let mut brought = vec![Brought::as_it_is(&container.root)];
    // These have to be there, although the process will see the container's mounts.
    brought.extend(stage::root_and_namespaces(spec));
    brought.extend(console_socket.as_deref().map(Brought::as_it_is));
    let stage = Stage { config, brought, mapped: None };
    inside::run(cgroup, false, |launcher| {
        inside::on_stage(&stage, || build(container, &workspace, &file, console_socket, launcher))
    })
}

/// Joins a container that has a user namespace.
fn enter(
    container: &Container,
    cgroup: &Cgroup,
    init_pid: i32,
    mut spec: Spec,
    process: Process,
    console_socket: Option<&Path>,
) -> Result<(i32, verdict::Receiver), Failure> {
    let failed = |error: EntryError| engine_failure("the container can't be entered", &error);
    let entry = Entry::open(init_pid, console_socket).map_err(failed)?;
    // What was opened is this container's only if the process still is.
    running(container)?;
    spec.set_process(Some(process));
    inside::run(cgroup, false, |launcher| entry.start(&spec, &launcher).map_err(failed))
}

fn read_request(path: &Path) -> Result<ProcessRequest, Failure> {
    let file = File::open(path).map_err(|error| engine_failure("the request can't be opened", &error))?;
    serde_json::from_reader(BufReader::new(file))
        .map_err(|error| engine_failure("the request can't be read", &error))
}

/// The first process, if it runs.
fn running(container: &Container) -> Result<i32, Failure> {
    let not_running = || {
        let message = format!("the container {} is not running", container.id);
        Failure { code: FailureCode::NotRunning, message }
    };
    let directory = container.directory();
    if !directory.exists() {
        return Err(not_running());
    }
    let made = Made::load(directory)
        .map_err(|error| engine_failure("the container's state can't be read", &error))?;
    match (made.status(), made.pid()) {
        (ContainerStatus::Running, Some(pid)) => Ok(pid.as_raw()),
        _ => Err(not_running()),
    }
}

/// The first process's own description, changed by what was asked for.
fn process(spec: &Spec, pid: i32, request: ProcessRequest) -> Result<Process, Failure> {
    let missing = || Failure { code: FailureCode::Engine, message: "config.json has no process".into() };
    let mut process = spec.process().clone().ok_or_else(missing)?;
    let mut env = process.env().clone().unwrap_or_default();
    if let Some(text) = &request.user {
        let user = accounts::lookup(pid, text)?;
        let first_uid = process.user().uid().to_string();
        // HOME goes with the user, unless somebody set it to something else on purpose.
        if let Ok(first) = accounts::lookup(pid, &first_uid)
            && env.contains(&format!("HOME={}", first.home))
        {
            set(&mut env, format!("HOME={}", user.home));
        }
        let mut gids = vec![user.gid];
        gids.extend(&user.supplementary_gids);
        process.user_mut().set_uid(user.uid).set_gid(user.gid).set_additional_gids(Some(gids));
    }
    request.env.into_iter().for_each(|entry| set(&mut env, entry));
    if request.tty && !env.iter().any(|entry| entry.starts_with("TERM=")) {
        env.push("TERM=xterm".to_owned());
    }
    if let Some(workdir) = request.workdir {
        check_workdir(pid, &workdir)?;
        process.set_cwd(PathBuf::from(workdir));
    }
    process
        .set_args(Some(request.argv))
        .set_env(Some(env))
        .set_terminal(Some(request.tty))
        .set_console_size(request.size.map(console_size));
    Ok(process)
}

/// `libcontainer` does not say that it was the working directory that could not be entered.
fn check_workdir(pid: i32, workdir: &str) -> Result<(), Failure> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open(&PathBuf::from(format!("/proc/{pid}/root")), flags, Mode::empty())
        .map_err(|error| engine_failure("the container's root can't be opened", &error))?;
    let within = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    match openat2(&root, workdir, OpenHow::new().flags(flags).resolve(within)) {
        Err(error @ (Errno::ENOENT | Errno::ENOTDIR)) => {
            Err(engine_failure(&format!("the working directory {workdir} can't be entered"), &error))
        }
        // Whatever else is the matter, entering it will tell.
        _ => Ok(()),
    }
}

/// The size as the OCI runtime spec has it.
fn console_size(size: TerminalSize) -> ConsoleSize {
    let builder = ConsoleSizeBuilder::default().height(size.rows).width(size.columns);
    builder.build().expect("both sides of the size are given")
}

/// Sets one variable; a key that is there already is replaced in place.
fn set(env: &mut Vec<String>, entry: String) {
    let key_len = entry.find('=').map_or(entry.len(), |at| at + 1);
    match env.iter_mut().find(|old| old.as_bytes().starts_with(&entry.as_bytes()[..key_len])) {
        Some(old) => *old = entry,
        None => env.push(entry),
    }
}

fn build(
    container: &Container,
    workspace: &Workspace,
    process: &Path,
    console_socket: Option<PathBuf>,
    launcher: Launcher,
) -> Result<i32, LibcontainerError> {
    let pid = ContainerBuilder::new(container.id.clone(), SyscallType::Linux)
        .with_root_path(&workspace.root)?
        .with_console_socket(console_socket)
        .with_executor(launcher)
        .as_tenant()
        .with_process(Some(process))
        .with_detach(true)
        .build()?;
    Ok(pid.as_raw())
}

/// `libcontainer` reads the process from a file; one that needs no name leaves none behind.
fn in_memory(process: &Process) -> io::Result<File> {
    let mut file = File::from(memfd_create("process", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(&serde_json::to_vec(process)?)?;
    Ok(file)
}

/// A place for the sockets that `libcontainer` leaves behind after an exec: a root of its own in the container's
/// directory, with a second link to its state. Removed when dropped, at the latest with the container.
#[derive(Debug)]
struct Workspace {
    root: PathBuf,
}

impl Workspace {
    fn make(container: &Container) -> io::Result<Self> {
        let root = container.directory().join(format!("exec-{}", std::process::id()));
        let workspace = Self { root: root.clone() };
        let directory = root.join(&container.id);
        fs::create_dir_all(&directory)?;
        fs::hard_link(container.directory().join("state.json"), directory.join("state.json"))?;
        Ok(workspace)
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        // If it fails, delete finds it.
        let _ = fs::remove_dir_all(&self.root);
    }
}
