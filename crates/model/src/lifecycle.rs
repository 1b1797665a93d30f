//! What can happen to a workload on its node: one enum and one exhaustive transition function.
//!
//! ```text
//!   pending -> pulling -> starting -> running <-> paused
//!      |          |          |           |          |
//!      +----------+----------+-- stopping ----------+      (a stop was asked for)
//!                 |                      |
//!               failed         stopped / lost              (never ran / ran and ended / its shim vanished)
//! ```
//!
//! A status belongs to one run. The last three are final; what is started again begins at `pending`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a workload stands, as `ps` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkloadStatus {
    /// Wanted, and not begun yet.
    Pending,
    /// Its image is being fetched.
    Pulling,
    /// Its sandbox is being made.
    Starting,
    /// Its first process runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// It was asked to stop and still runs.
    Stopping,
    /// It ran and ended; there is an exit status.
    Stopped,
    /// It could not be run; there is a reason.
    Failed,
    /// Its shim vanished, so nobody knows how it ended.
    Lost,
}

/// What the node saw happen to a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LifecycleEvent {
    /// The image is missing, and a pull began.
    PullBegun,
    /// The image is there, and the sandbox is being made.
    StartBegun,
    /// The first process runs.
    Started,
    /// A step before `Started` failed.
    StartFailed,
    /// The processes were frozen.
    Frozen,
    /// The processes were thawed.
    Thawed,
    /// Somebody asked for it to stop.
    StopAsked,
    /// The first process ended.
    Exited,
    /// The shim is gone without an exit status.
    ShimVanished,
}

/// An event that makes no sense in a status: a defect in the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a {status} workload can't take the event {event:?}")]
pub struct TransitionError {
    /// The status before.
    pub status: WorkloadStatus,
    /// The event that doesn't fit.
    pub event: LifecycleEvent,
}

impl WorkloadStatus {
    /// Every status, in the order of a life.
    pub const ALL: [Self; 9] = [
        Self::Pending,
        Self::Pulling,
        Self::Starting,
        Self::Running,
        Self::Paused,
        Self::Stopping,
        Self::Stopped,
        Self::Failed,
        Self::Lost,
    ];

    /// The status after `event`.
    ///
    /// # Errors
    /// [`TransitionError`] when the event can't happen in this status.
    pub const fn after(self, event: LifecycleEvent) -> Result<Self, TransitionError> {
        use LifecycleEvent as E;
        Ok(match (self, event) {
            (Self::Pending, E::PullBegun) => Self::Pulling,
            (Self::Pending | Self::Pulling, E::StartBegun) => Self::Starting,
            (Self::Starting, E::Started) | (Self::Paused, E::Thawed) => Self::Running,
            (Self::Pending | Self::Pulling | Self::Starting, E::StartFailed) => Self::Failed,
            (Self::Running, E::Frozen) => Self::Paused,
            (Self::Pending | Self::Pulling | Self::Starting | Self::Running | Self::Paused, E::StopAsked) => {
                Self::Stopping
            }
            // A stop can overtake a start that is under way.
            (Self::Stopping, E::Started | E::StopAsked) => Self::Stopping,
            (Self::Stopping, E::StartFailed) => Self::Stopped,
            (Self::Starting | Self::Running | Self::Paused | Self::Stopping, E::Exited) => Self::Stopped,
            (Self::Starting | Self::Running | Self::Paused | Self::Stopping, E::ShimVanished) => Self::Lost,
            _ => return Err(TransitionError { status: self, event }),
        })
    }

    /// Whether nothing more will happen to this attempt.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Stopped | Self::Failed | Self::Lost)
    }

    /// Whether processes of the workload exist, frozen or not.
    #[must_use]
    pub const fn has_processes(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Stopping)
    }

    /// The word that `ps` shows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Pulling => "pulling",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Lost => "lost",
        }
    }
}

impl fmt::Display for WorkloadStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: [LifecycleEvent; 9] = [
        LifecycleEvent::PullBegun,
        LifecycleEvent::StartBegun,
        LifecycleEvent::Started,
        LifecycleEvent::StartFailed,
        LifecycleEvent::Frozen,
        LifecycleEvent::Thawed,
        LifecycleEvent::StopAsked,
        LifecycleEvent::Exited,
        LifecycleEvent::ShimVanished,
    ];

    #[test]
    fn a_plain_life_goes_from_pending_to_stopped() {
        let life = [
            LifecycleEvent::PullBegun,
            LifecycleEvent::StartBegun,
            LifecycleEvent::Started,
            LifecycleEvent::Exited,
        ];
        let end = life.into_iter().try_fold(WorkloadStatus::Pending, WorkloadStatus::after);
        assert_eq!(end, Ok(WorkloadStatus::Stopped));
    }

    #[test]
    fn nothing_leaves_a_final_status() {
        for status in WorkloadStatus::ALL.into_iter().filter(|status| status.is_final()) {
            for event in EVENTS {
                assert_eq!(status.after(event), Err(TransitionError { status, event }));
            }
        }
    }

    #[test]
    fn every_status_can_be_reached_and_every_other_one_left() {
        let reached = |target| {
            WorkloadStatus::ALL.iter().any(|from| EVENTS.iter().any(|event| from.after(*event) == Ok(target)))
        };
        for status in WorkloadStatus::ALL {
            assert!(status == WorkloadStatus::Pending || reached(status), "{status} is unreachable");
            assert!(
                status.is_final() || EVENTS.iter().any(|event| status.after(*event).is_ok()),
                "{status} is a trap"
            );
        }
    }

    #[test]
    fn a_stop_may_overtake_a_start() {
        let life = [
            LifecycleEvent::StartBegun,
            LifecycleEvent::StopAsked,
            LifecycleEvent::Started,
            LifecycleEvent::Exited,
        ];
        let end = life.into_iter().try_fold(WorkloadStatus::Pending, WorkloadStatus::after);
        assert_eq!(end, Ok(WorkloadStatus::Stopped));
    }
}
