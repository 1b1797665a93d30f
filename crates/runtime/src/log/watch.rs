//! Being told by the kernel when a log may have grown or ended (inotify(7)). It refuses to say what changed:
//! whoever asks looks again.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, RawFd},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};
use tokio::io::unix::AsyncFd;

use super::LogError;

/// Pause between two looks when the kernel has no notifications left to give.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A watch on one workload's directory and its log.
#[derive(Debug)]
pub(super) struct Watch {
    /// `None` when the kernel's limit on watchers is reached (`fs.inotify.max_user_instances`, 128 for each user
    /// unless raised): followers beyond it look again from time to time.
    events: Option<AsyncFd<Events>>,
    log_directory: PathBuf,
    /// The log's directory is made when the workload starts, which may be later.
    is_log_seen: bool,
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
        let events = watch_entries(workload_directory).map_err(failed)?;
        let mut watch = Self { events, log_directory: log_directory.to_owned(), is_log_seen: false };
        watch.look_for_log().map_err(failed)?;
        Ok(watch)
    }

    /// Whether the log was there and is no more.
    pub(super) fn is_log_removed(&self) -> bool {
        self.is_log_seen && !self.log_directory.exists()
    }

    /// Returns when something may have changed since the last call, or since the watch was made. Cancel safe.
    pub(super) async fn changed(&mut self) -> io::Result<()> {
        // The log may have come between the last look and this: then that is the change.
        if !self.is_log_seen && self.look_for_log()? {
            return Ok(());
        }
        let Some(events) = &self.events else {
            tokio::time::sleep(LOOK_AGAIN).await;
            return Ok(());
        };
        loop {
            let mut ready = events.readable().await?;
            match ready.get_inner().0.read_events() {
                Ok(_) => return Ok(()),
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Watches the log's directory too, if it is there.
    fn look_for_log(&mut self) -> io::Result<bool> {
        let growing = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MODIFY;
        self.is_log_seen = match &self.events {
            None => self.log_directory.exists(),
            Some(events) => match events.get_ref().0.add_watch(&self.log_directory, growing) {
                Ok(_) => true,
                Err(Errno::ENOENT) => false,
                Err(error) => return Err(error.into()),
            },
        };
        Ok(self.is_log_seen)
    }
}

/// Watches what appears in a workload's directory and disappears from it. `None` when there are too many watchers.
fn watch_entries(directory: &Path) -> io::Result<Option<AsyncFd<Events>>> {
    let events = match Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC) {
        Err(Errno::EMFILE) => return Ok(None),
        events => events?,
    };
    // A file that is still read keeps the directories above it, and then IN_DELETE_SELF, waiting: IN_DELETE comes.
    let entries = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_DELETE;
    events.add_watch(directory, entries | AddWatchFlags::IN_DELETE_SELF)?;
    register(Events(events)).map(Some)
}

#[allow(
    deprecated,
    reason = "its replacement is unsafe, which is forbidden here; `Events` keeps its descriptor for life"
)]
fn register(events: Events) -> io::Result<AsyncFd<Events>> {
    AsyncFd::new(events)
}
