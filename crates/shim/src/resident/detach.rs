//! How the shim leaves the agent: a session of its own, no parent, no terminal, nothing inherited but its first
//! connection, which comes as standard input. It refuses to keep the agent waiting.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use nix::{
    fcntl::OFlag,
    sys::{
        prctl,
        signal::{SigSet, SigmaskHow, Signal, sigprocmask},
        signalfd::{SfdFlags, SignalFd},
        stat::{Mode, umask},
    },
    unistd::{dup2_stdin, setsid},
};

use super::kernel;

/// Which of the two processes this is.
#[derive(Debug)]
pub(super) enum Side {
    /// The one the agent waits for: it should end now.
    Starter,
    /// The one that stays, with the agent's connection.
    Resident(UnixStream),
}

/// A score that spares the shim when memory runs out: without it nobody would know how its workload ended.
const OOM_SCORE_OWN: &str = "-999";
/// The ordinary score: that of everything the shim starts.
const OOM_SCORE_CHILDREN: &str = "0";

/// Splits the resident process off. The agent sees its child end at once, and the other one is nobody's child.
pub(super) fn detach() -> io::Result<Side> {
    if !kernel::fork()? {
        return Ok(Side::Starter);
    }
    setsid()?;
    let connection = io::stdin().as_fd().try_clone_to_owned()?;
    let null = OwnedFd::from(File::options().read(true).write(true).open("/dev/null")?);
    dup2_stdin(&null)?;
    std::env::set_current_dir("/")?;
    // Ours for what we start; files of our own are made with explicit modes.
    umask(Mode::from_bits_truncate(0o022));
    prctl::set_child_subreaper(true)?;
    spare_from_oom_kills();
    let connection = UnixStream::from(connection);
    connection.set_nonblocking(true)?;
    Ok(Side::Resident(connection))
}

/// Turns SIGCHLD into something to poll, and survives the signals that would end the shim.
pub(super) fn signals() -> io::Result<SignalFd> {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP] {
        kernel::survive(signal)?;
    }
    let mask = SigSet::from(Signal::SIGCHLD);
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&mask), None)?;
    Ok(SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

/// Runs `spawn` with what children shall inherit: an ordinary score, and no signal blocked.
///
/// A child that ends meanwhile goes unannounced: look for children afterwards.
pub(super) fn as_children_shall_be<T>(spawn: impl FnOnce() -> T) -> T {
    let mask = SigSet::from(Signal::SIGCHLD);
    set_oom_score(OOM_SCORE_CHILDREN);
    let unblocked = sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&mask), None);
    let spawned = spawn();
    let blocked = sigprocmask(SigmaskHow::SIG_BLOCK, Some(&mask), None);
    spare_from_oom_kills();
    unblocked.and(blocked).expect("the mask and the ways to change it are valid");
    spawned
}

fn spare_from_oom_kills() {
    set_oom_score(OOM_SCORE_OWN);
}

fn set_oom_score(score: &str) {
    // Without the privilege to lower it the shim is as likely to be killed as others: still better than not to run.
    let _ = fs::write("/proc/self/oom_score_adj", score);
}

/// Makes a descriptor non-blocking. Only for open file descriptions that nobody else uses.
pub(super) fn set_nonblocking(fd: impl AsFd) -> nix::Result<()> {
    use nix::fcntl::{FcntlArg, fcntl};
    let flags = OFlag::from_bits_truncate(fcntl(&fd, FcntlArg::F_GETFL)?);
    fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(drop)
}
