//! Being told by the kernel when a log may have grown or ended (inotify(7)). It refuses to say what changed:
//! whoever asks looks again.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, RawFd},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};
use tokio::io::unix::AsyncFd;

use super::LogError;

/// A watch on one workload's directory and its log.
#[derive(Debug)]
pub(super) struct Watch {
    events: AsyncFd<Events>,
    log_directory: PathBuf,
    /// The log's directory is made when the workload starts, which may be later.
    is_log_watched: bool,
}

#[derive(Debug)]
struct Events(Inotify);

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Watch {
    pub(super) fn new(workload_directory: &Path, log_directory: &Path) -> Result<Self, LogError> {
        let failed =
            |error: io::Error| LogError::Watch { path: workload_directory.to_owned(), source: error };
        let events =
            Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).map_err(|e| failed(e.into()))?;
        // A file that is still read keeps the directories above it, and then IN_DELETE_SELF, waiting: IN_DELETE comes.
        let entries = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_DELETE;
        events
            .add_watch(workload_directory, entries | AddWatchFlags::IN_DELETE_SELF)
            .map_err(|e| failed(e.into()))?;
        let events = register(Events(events)).map_err(failed)?;
        let mut watch = Self { events, log_directory: log_directory.to_owned(), is_log_watched: false };
        watch.cover_log().map_err(failed)?;
        Ok(watch)
    }

    /// Whether the log was there and is no more.
    pub(super) fn is_log_removed(&self) -> bool {
        self.is_log_watched && !self.log_directory.exists()
    }

    /// Returns when something changed since the last call, or since the watch was made. Cancel safe.
    pub(super) async fn changed(&mut self) -> io::Result<()> {
        // The log may have come between the last look and this: then that is the change.
        if !self.is_log_watched && self.cover_log()? {
            return Ok(());
        }
        loop {
            let mut ready = self.events.readable().await?;
            match ready.get_inner().0.read_events() {
                Ok(_) => return Ok(()),
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Watches the log's directory if it is there.
    fn cover_log(&mut self) -> io::Result<bool> {
        let growing = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MODIFY;
        match self.events.get_ref().0.add_watch(&self.log_directory, growing) {
            Ok(_) => self.is_log_watched = true,
            Err(Errno::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(self.is_log_watched)
    }
}

#[allow(
    deprecated,
    reason = "its replacement is unsafe, which is forbidden here; `Events` keeps its descriptor for life"
)]
fn register(events: Events) -> io::Result<AsyncFd<Events>> {
    AsyncFd::new(events)
}
