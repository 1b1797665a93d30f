//! What happened on this node, for those who want to know as it happens: the last few thousand events, and a watch that
//! says when to look again. It refuses to wait for slow readers: one that falls behind is told how many it missed.
//!
//! ```text
//!   keepers, image and volume handlers --publish--> ring of EVENTS_MAX --+--> reader: a place in the sequence
//!                                                                        +--> reader
//! ```
//!
//! Events are soft: they begin anew with the agent, and nothing is ever decided by them.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hypercore_cluster::state::WorkloadRecord;
use hypercore_model::{ExitStatus, TenantName, Timestamp};
use tokio::sync::watch;

use crate::clock;

/// How many events are remembered: about a megabyte.
pub(crate) const EVENTS_MAX: usize = 4096;
/// Longest value of a detail, in bytes: the cause of a failure may quote whole command lines.
const DETAIL_LEN_MAX: usize = 1024;

/// What sort of thing an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A workload.
    Workload,
    /// An image.
    Image,
    /// A volume.
    Volume,
    /// A snapshot.
    Snapshot,
    /// The node itself.
    Node,
}

impl Kind {
    /// The word that readers see.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Workload => "workload",
            Self::Image => "image",
            Self::Volume => "volume",
            Self::Snapshot => "snapshot",
            Self::Node => "node",
        }
    }
}

/// What happened to it. Not everything happens to everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// It is wanted, or was made.
    Created,
    /// Its first process runs, for the first time.
    Started,
    /// Its first process runs again, as its restart policy says.
    Restarted,
    /// Its first process ended, however that came.
    Exited,
    /// It has ended because that was asked for, or its time was over.
    Stopped,
    /// It could not be run.
    Failed,
    /// Nobody knows how it ended.
    Lost,
    /// Its processes are held.
    Paused,
    /// They go on.
    Resumed,
    /// A snapshot was made of it.
    Snapshotted,
    /// It goes on from a snapshot.
    Restored,
    /// Clones of it were made.
    Forked,
    /// It is gone.
    Removed,
    /// An image was fetched.
    Pulled,
    /// An image was read from a file.
    Imported,
    /// What nobody needs was removed.
    Pruned,
}

impl Action {
    /// The word that readers see.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Started => "started",
            Self::Restarted => "restarted",
            Self::Exited => "exited",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Lost => "lost",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::Snapshotted => "snapshotted",
            Self::Restored => "restored",
            Self::Forked => "forked",
            Self::Removed => "removed",
            Self::Pulled => "pulled",
            Self::Imported => "imported",
            Self::Pruned => "pruned",
        }
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) at: Timestamp,
    pub(crate) kind: Kind,
    pub(crate) action: Action,
    /// The workload's or node's id; the image's or volume's name.
    pub(crate) id: String,
    /// The workload's name; empty otherwise.
    pub(crate) name: String,
    /// The image it is about; empty when there is none.
    pub(crate) image: String,
    /// Whose workload it is; `None` is the node's own business.
    pub(crate) tenant: Option<TenantName>,
    pub(crate) details: BTreeMap<&'static str, String>,
}

impl Event {
    /// Something happened to a workload.
    pub(crate) fn workload(action: Action, record: &WorkloadRecord) -> Self {
        let name = record.spec.name.as_ref().map(ToString::to_string).unwrap_or_default();
        let image = record.spec.image.to_string();
        let tenant = Some(record.spec.tenant.clone());
        Self { name, image, tenant, ..Self::new(Kind::Workload, action, record.id.to_string()) }
    }

    /// Something happened to an image, named as callers name it.
    pub(crate) fn image(action: Action, reference: impl Into<String>) -> Self {
        let reference = reference.into();
        Self { image: reference.clone(), ..Self::new(Kind::Image, action, reference) }
    }

    /// Something happened to a volume.
    pub(crate) fn volume(action: Action, name: impl Into<String>) -> Self {
        Self::new(Kind::Volume, action, name.into())
    }

    /// Something happened to a snapshot of this tenant's workload.
    pub(crate) fn snapshot(action: Action, name: impl Into<String>, tenant: TenantName) -> Self {
        Self { tenant: Some(tenant), ..Self::new(Kind::Snapshot, action, name.into()) }
    }

    /// Something happened to the node.
    pub(crate) fn node(action: Action, id: impl Into<String>) -> Self {
        Self::new(Kind::Node, action, id.into())
    }

    /// Adds a detail; a long one is cut.
    pub(crate) fn with(mut self, key: &'static str, value: impl ToString) -> Self {
        let mut value = value.to_string();
        value.truncate(value.floor_char_boundary(DETAIL_LEN_MAX));
        self.details.insert(key, value);
        self
    }

    /// Adds how a process ended: `exit_code` as shells count, and `signal` or `out_of_memory` when that was it.
    pub(crate) fn with_exit(self, exit: ExitStatus) -> Self {
        let event = self.with("exit_code", exit.shell_code());
        match exit {
            ExitStatus::Code(_) => event,
            ExitStatus::Signal(signal) => event.with("signal", signal),
            ExitStatus::OutOfMemory => event.with("out_of_memory", true),
        }
    }

    fn new(kind: Kind, action: Action, id: String) -> Self {
        let (name, image, details) = (String::new(), String::new(), BTreeMap::new());
        Self { at: clock::now(), kind, action, id, name, image, tenant: None, details }
    }
}

/// The node's events. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    ring: Arc<Mutex<Ring>>,
    /// The number of events so far: look again.
    count: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Ring {
    remembered: VecDeque<Arc<Event>>,
    /// How many there were in all.
    count: u64,
}

impl Ring {
    /// The number of the oldest event that is remembered.
    fn oldest(&self) -> u64 {
        self.count - self.remembered.len() as u64
    }
}

impl Default for Events {
    fn default() -> Self {
        Self { ring: Arc::default(), count: watch::Sender::new(0) }
    }
}

impl Events {
    /// Tells everybody who reads. Never waits.
    pub(crate) fn publish(&self, event: Event) {
        let count = {
            let mut ring = self.lock();
            if ring.remembered.len() == EVENTS_MAX {
                ring.remembered.pop_front();
            }
            ring.remembered.push_back(Arc::new(event));
            ring.count += 1;
            ring.count
        };
        // Two may publish at once: the higher number stays.
        self.count.send_if_modified(|seen| {
            let is_news = count > *seen;
            *seen = count.max(*seen);
            is_news
        });
    }

    /// A reader of what is remembered and happened at `since` or later, and of all that comes. Without `since`, of what
    /// comes.
    pub(crate) fn read(&self, since: Option<Timestamp>) -> Reader {
        let count = self.count.subscribe();
        let ring = self.lock();
        let next = if since.is_some() { ring.oldest() } else { ring.count };
        Reader { ring: Arc::clone(&self.ring), count, next, since }
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        lock(&self.ring)
    }
}

fn lock(ring: &Mutex<Ring>) -> MutexGuard<'_, Ring> {
    // Nothing panics between the two halves of a change.
    ring.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a reader is handed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    /// An event.
    Event(Arc<Event>),
    /// So many events were forgotten before this reader came to them.
    Missed(u64),
}

/// A place in the sequence of events.
#[derive(Debug)]
pub(crate) struct Reader {
    ring: Arc<Mutex<Ring>>,
    count: watch::Receiver<u64>,
    /// The number of the event to read next.
    next: u64,
    since: Option<Timestamp>,
}

impl Reader {
    /// What comes next, if it is there already.
    pub(crate) fn try_next(&mut self) -> Option<Heard> {
        let ring = lock(&self.ring);
        let missed = ring.oldest().saturating_sub(self.next);
        if missed > 0 {
            self.next += missed;
            return Some(Heard::Missed(missed));
        }
        while self.next < ring.count {
            let event = &ring.remembered[usize::try_from(self.next - ring.oldest()).ok()?];
            self.next += 1;
            if self.since.is_none_or(|since| event.at >= since) {
                return Some(Heard::Event(Arc::clone(event)));
            }
        }
        None
    }

    /// What comes next, when it comes; `None` when the node goes down. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Heard> {
        loop {
            self.count.mark_unchanged();
            if let Some(heard) = self.try_next() {
                return Some(heard);
            }
            self.count.changed().await.ok()?;
        }
    }
}

#[cfg(test)]
mod tests;
