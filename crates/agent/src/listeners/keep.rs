//! Whoever keeps descriptors while no agent runs: systemd's file descriptor store (sd_notify(3), `FDSTORE=1`).
//! It refuses to fail a start because nobody keeps them: the socket works all the same.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd},
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sd_notify::NotifyState;

/// How long systemd may take to say that it heard us.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// Whether there is somebody to keep sockets.
#[derive(Debug)]
pub(super) struct Keeper {
    is_somebody: bool,
}

impl Keeper {
    /// systemd, when it started this process and listens to it.
    pub(super) fn from_environment() -> Self {
        Self { is_somebody: std::env::var_os("NOTIFY_SOCKET").is_some() }
    }

    /// Nobody keeps anything.
    pub(super) const fn nobody() -> Self {
        Self { is_somebody: false }
    }

    pub(super) const fn is_somebody(&self) -> bool {
        self.is_somebody
    }

    /// Has this socket kept under this name.
    pub(super) fn keep(&self, name: &str, socket: BorrowedFd<'_>) {
        self.tell(name, &[NotifyState::FdStore, NotifyState::FdName(name)], &[socket]);
    }

    /// Has what is kept under this name closed, and waits until it is: its address may be bound next.
    pub(super) fn forget(&self, name: &str) {
        self.tell(name, &[NotifyState::FdStoreRemove, NotifyState::FdName(name)], &[]);
        if let Err(error) = self.wait_until_heard() {
            tracing::warn!(%error, name, "systemd did not say that it let a socket go");
        }
    }

    fn tell(&self, name: &str, state: &[NotifyState<'_>], sockets: &[BorrowedFd<'_>]) {
        if !self.is_somebody {
            return;
        }
        if let Err(error) = sd_notify::notify_with_fds(state, sockets) {
            tracing::warn!(%error, name, "systemd could not be told what to keep: connections are refused while the agent restarts");
        }
    }

    /// sd_notify_barrier(3): systemd closes the pipe's end when it has handled everything that was sent before.
    fn wait_until_heard(&self) -> io::Result<()> {
        if !self.is_somebody {
            return Ok(());
        }
        let (ours, theirs) = io::pipe()?;
        sd_notify::notify_with_fds(&[NotifyState::Custom("BARRIER=1")], &[theirs.as_fd()])?;
        drop(theirs);
        let timeout = PollTimeout::try_from(ANSWER_TIME_MAX).expect("seconds fit into poll's milliseconds");
        let closed = poll(&mut [PollFd::new(ours.as_fd(), PollFlags::empty())], timeout)?;
        if closed == 0 { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }
}
