//! The way of a further process into a container with a user namespace. `libcontainer` joins every namespace but that
//! one, and its process would be the host's root; so the steps that it does for other containers are done here.
//!
//! ```text
//!   engine's child, the host's root:  limits, network namespace, user namespace, then all others
//!     '- the process, root inside:    session, terminal, directory, user, capabilities, then the Launcher's steps
//! ```
//!
//! The order matters: the network namespace is the node's, and limits are raised with the host's rights; everything
//! else belongs to the user namespace, and is done with the rights that its root has.
//!
//! It refuses to start a process that is not in all of the container's namespaces.

use std::{
    env, fs, io,
    os::{
        fd::{AsRawFd, IntoRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
};

use libcontainer::{
    capabilities,
    oci_spec::runtime::{LinuxCapabilities, Process, Spec},
    syscall::{
        SyscallError,
        syscall::{Syscall, SyscallType},
    },
    tty::{self, TTYError},
    workload::Executor,
};
use nix::{
    errno::Errno,
    fcntl::{OFlag, open, openat},
    sched::{CloneFlags, setns},
    sys::{prctl, stat::Mode},
    unistd::{Gid, Uid, chdir, pipe2, read, setgroups, setresgid, setresuid, setsid, write},
};

use super::{engine_failure, fork, launcher::Launcher};
use crate::report::{Failure, Report};

/// The namespaces of a container, in the order in which they can be joined.
const NAMESPACES: [(&str, CloneFlags); 7] = [
    ("net", CloneFlags::CLONE_NEWNET),
    ("user", CloneFlags::CLONE_NEWUSER),
    ("pid", CloneFlags::CLONE_NEWPID),
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("uts", CloneFlags::CLONE_NEWUTS),
    ("cgroup", CloneFlags::CLONE_NEWCGROUP),
    ("mnt", CloneFlags::CLONE_NEWNS),
];

/// Why there is no further process.
#[derive(Debug, thiserror::Error)]
pub(super) enum EntryError {
    /// The first process is gone, or may not be looked at.
    #[error("the container's {0} namespace can't be opened")]
    Open(&'static str, #[source] Errno),
    /// Nobody listens for the terminal.
    #[error("the console socket can't be reached")]
    Console(#[source] io::Error),
    /// The kernel's choice in need of memory can't be set.
    #[error("the OOM score can't be set")]
    OomScore(#[source] io::Error),
    /// A limit can't be set.
    #[error("the limits can't be set")]
    Limit(#[source] SyscallError),
    /// A namespace can't be joined.
    #[error("the container's {0} namespace can't be joined")]
    Join(&'static str, #[source] Errno),
    /// The process could be looked into while it has the host's memory.
    #[error("the process can't be hidden")]
    Hide(#[source] Errno),
    /// No child.
    #[error("there is no process")]
    Fork(#[source] io::Error),
    /// No session of its own.
    #[error("there is no session")]
    Session(#[source] Errno),
    /// The terminal can't be made.
    #[error("there is no terminal")]
    Terminal(#[source] TTYError),
    /// The working directory can't be entered.
    #[error("the working directory {} can't be entered", .0.display())]
    Directory(PathBuf, #[source] io::Error),
    /// The user can't be taken on.
    #[error("user {0} can't be taken on")]
    User(u32, #[source] Errno),
    /// Descriptors of the engine can't be closed.
    #[error("the engine's descriptors can't be closed")]
    Descriptors(#[source] SyscallError),
    /// The process itself told why.
    #[error("the process did not become its program")]
    Program,
    /// Capabilities can't be dropped.
    #[error("the capabilities can't be set")]
    Capabilities(#[source] SyscallError),
}

/// What has to be opened while the host's paths are there.
#[derive(Debug)]
pub(super) struct Entry {
    namespaces: Vec<(&'static str, CloneFlags, OwnedFd)>,
    console: Option<UnixStream>,
}

impl Entry {
    /// Opens the namespaces of the process `pid`, and the socket that its terminal is to be sent over.
    pub(super) fn open(pid: i32, console_socket: Option<&Path>) -> Result<Self, EntryError> {
        // All of one process: what is opened below its directory fails when it is gone, whoever has its number then.
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let directory = open(&PathBuf::from(format!("/proc/{pid}/ns")), flags, Mode::empty())
            .map_err(|errno| EntryError::Open("first", errno))?;
        let opened = NAMESPACES.map(|(name, kind)| match openat(&directory, name, flags, Mode::empty()) {
            Ok(file) => Ok((name, kind, file)),
            Err(errno) => Err(EntryError::Open(name, errno)),
        });
        let console = console_socket.map(connect).transpose().map_err(EntryError::Console)?;
        Ok(Self { namespaces: opened.into_iter().collect::<Result<_, _>>()?, console })
    }

    /// Joins the container with this process, which must have a single thread, and makes a child that becomes the
    /// process of `spec`; its id, when it is. What goes wrong in the child is told by `launcher`, before the error.
    pub(super) fn start(self, spec: &Spec, launcher: &Launcher) -> Result<i32, EntryError> {
        let syscall = SyscallType::Linux.create_syscall();
        let process = spec.process().clone().unwrap_or_default();
        if let Some(score) = process.oom_score_adj() {
            fs::write("/proc/self/oom_score_adj", score.to_string()).map_err(EntryError::OomScore)?;
        }
        for limit in process.rlimits().iter().flatten() {
            syscall.set_rlimit(limit).map_err(EntryError::Limit)?;
        }
        // From the first namespace on there are others who could look: not at this process.
        prctl::set_dumpable(false).map_err(EntryError::Hide)?;
        for (name, kind, file) in &self.namespaces {
            setns(file, *kind).map_err(|errno| EntryError::Join(name, errno))?;
        }
        let (failed, fails) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| EntryError::Fork(errno.into()))?;
        let child = fork::spawn(None, || {
            let Err(failure) = become_program(&*syscall, self.console, spec, &process, launcher);
            launcher.tell(Report::Error(failure));
            let _ = write(&fails, &[1]);
            false
        });
        let child = child.map_err(EntryError::Fork)?;
        drop(fails);
        // Closed without a word by execve. Whoever fails is reaped here: the container couldn't end otherwise.
        match read(&failed, &mut [0]) {
            Ok(0) => Ok(child.as_raw()),
            _ => Err(fork::wait(child).map_or_else(EntryError::Fork, |_| EntryError::Program)),
        }
    }
}

/// Connects to a socket whatever the length of its path.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let socket = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd()))
}

/// Returns only if it failed.
fn become_program(
    syscall: &dyn Syscall,
    console: Option<UnixStream>,
    spec: &Spec,
    process: &Process,
    launcher: &Launcher,
) -> Result<std::convert::Infallible, Failure> {
    let prepared = prepare(syscall, console, process);
    prepared.map_err(|error| engine_failure("the container can't be entered", &error))?;
    let unsaid = |error: &dyn std::error::Error| engine_failure("the program can't be started", error);
    launcher.validate(spec).map_err(|error| unsaid(&error))?;
    match launcher.exec(spec) {
        Err(error) => Err(unsaid(&error)),
        Ok(()) => Err(engine_failure("the program can't be started", &Errno::UnknownErrno)),
    }
}

/// Gives this process everything that the program is to have, and nothing else.
fn prepare(syscall: &dyn Syscall, console: Option<UnixStream>, process: &Process) -> Result<(), EntryError> {
    setsid().map_err(EntryError::Session)?;
    // Whatever is made from here on, a terminal to begin with, belongs to the container's root.
    take_on(0, 0, &[]).map_err(|errno| EntryError::User(0, errno))?;
    prctl::set_no_new_privs().map_err(EntryError::Hide)?;
    if let Some(console) = console {
        tty::setup_console(syscall, console.into_raw_fd(), false).map_err(EntryError::Terminal)?;
    }
    enter(process.cwd())?;
    let user = process.user();
    let gids = user.additional_gids().as_deref().unwrap_or_default();
    take_on(user.uid(), user.gid(), gids).map_err(|errno| EntryError::User(user.uid(), errno))?;
    capabilities::reset_effective(syscall).map_err(EntryError::Capabilities)?;
    syscall.close_range(0).map_err(EntryError::Descriptors)?;
    let none = LinuxCapabilities::default();
    let capabilities = process.capabilities().as_ref().unwrap_or(&none);
    capabilities::drop_privileges(capabilities, syscall).map_err(EntryError::Capabilities)
}

/// Becomes a user of the container, and keeps the capabilities for the steps that follow.
fn take_on(uid: u32, gid: u32, gids: &[u32]) -> nix::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    prctl::set_keepcaps(true)?;
    setgroups(&gids.iter().map(|&gid| Gid::from_raw(gid)).collect::<Vec<_>>())?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    prctl::set_keepcaps(false)?;
    // A change of the user lets the kernel choose anew whether a process can be looked into (fs.suid_dumpable).
    prctl::set_dumpable(false)
}

/// Enters the working directory, which must be one that the container's own root leads to.
fn enter(directory: &Path) -> Result<(), EntryError> {
    let entered = chdir(directory).map_err(io::Error::from).and_then(|()| env::current_dir());
    match entered {
        Ok(path) if path.is_absolute() => Ok(()),
        Ok(_) => Err(EntryError::Directory(directory.to_owned(), io::ErrorKind::NotFound.into())),
        Err(error) => Err(EntryError::Directory(directory.to_owned(), error)),
    }
}
