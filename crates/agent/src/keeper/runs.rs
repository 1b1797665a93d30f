//! What is remembered from one run of a workload to the next, as `runs.json`: how often it was started again, and when
//! the next run is due. It refuses to start anything.
//!
//! The file also fences the runs of one attempt from each other, for they share a directory and so an `exit.json`:
//!
//! ```text
//!   run ends --> exit.json --> runs.json: waiting --> exit.json removed --> runs.json: begun --> next run
//!                              `-- any exit.json is the earlier run's --'                `-- it is this run's
//! ```
//!
//! A missing file means that the first run is the current one.

use std::{fs, io, time::Duration};

use hypercore_model::{Attempt, ExitStatus, RestartPolicy, Timestamp, WorkloadId};
use serde::{Deserialize, Serialize};

use super::{end::End, outcome};
use crate::directory::WorkloadPaths;

/// The first pause, which doubles with each further restart in a row.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// A run that lasted this long was no failed start: the next pause is the first again.
const STEADY_AFTER: Duration = Duration::from_secs(10);

/// The runs of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Runs {
    attempt: Attempt,
    /// How often it was started again, in all.
    pub(crate) restarts: u32,
    /// How often since it last ran steadily.
    in_a_row: u32,
    phase: Phase,
}

/// Where the current run stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Phase {
    /// It was begun, or is about to be.
    Begun {
        at: Timestamp,
    },
    Waiting(Pause),
}

/// The pause before a run, and why there is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pause {
    /// When the run is due.
    pub(super) until: Timestamp,
    /// How the run before it ended.
    pub(super) last: LastRun,
}

/// How an earlier run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastRun {
    /// `None` when nobody knows, or it could not be run.
    pub(crate) exit: Option<ExitStatus>,
    /// In words: `exit code 1`.
    pub(crate) how: String,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Timestamp,
}

impl Runs {
    /// The first run of an attempt.
    pub(super) const fn first(attempt: Attempt, begun_at: Timestamp) -> Self {
        Self { attempt, restarts: 0, in_a_row: 0, phase: Phase::Begun { at: begun_at } }
    }

    /// What is on the disk of this attempt; its first run when there is nothing.
    pub(super) fn read(paths: &WorkloadPaths, attempt: Attempt, begun_at: Timestamp) -> Self {
        let read = outcome::read_json(&paths.runs()).filter(|runs: &Self| runs.attempt == attempt);
        read.unwrap_or_else(|| Self::first(attempt, begun_at))
    }

    /// Whether a run ended like this, and what follows: the pause before the next, or `None` when that was the last.
    pub(super) fn after(
        &self,
        policy: RestartPolicy,
        id: WorkloadId,
        end: &End,
        now: Timestamp,
    ) -> Option<Self> {
        let Phase::Begun { at } = self.phase else { return None };
        let started_at = end.started_at().unwrap_or(at);
        let in_a_row = if end.finished_at().since(started_at) >= STEADY_AFTER { 0 } else { self.in_a_row };
        // What never ran at all would not run the next time either: a mistake in the command, a missing image.
        let may_run = self.restarts > 0 || !end.is_failed_start();
        if !may_run || !policy.restarts(end.exit(), in_a_row) {
            return None;
        }
        let last = LastRun {
            exit: end.exit(),
            how: end.to_string(),
            started_at: end.started_at(),
            finished_at: end.finished_at(),
        };
        let until = Timestamp::from_unix_ms(now.unix_ms() + pause(in_a_row, id).as_millis() as u64);
        Some(Self {
            attempt: self.attempt,
            restarts: self.restarts.saturating_add(1),
            in_a_row: in_a_row.saturating_add(1),
            phase: Phase::Waiting(Pause { until, last }),
        })
    }

    /// The pause, while there is one.
    pub(super) const fn pause(&self) -> Option<&Pause> {
        match &self.phase {
            Phase::Waiting(pause) => Some(pause),
            Phase::Begun { .. } => None,
        }
    }

    /// The same with the run begun.
    pub(super) fn begun(&self, at: Timestamp) -> Self {
        Self { phase: Phase::Begun { at }, ..self.clone() }
    }

    /// Writes the file.
    pub(super) fn write(&self, paths: &WorkloadPaths) -> io::Result<()> {
        fs::create_dir_all(paths.directory())?;
        outcome::write_json(&paths.runs(), self)
    }
}

impl Pause {
    /// How long from `now`. A clock that was set back doesn't make it longer than any pause is.
    pub(super) fn left(&self, now: Timestamp) -> Duration {
        self.until.since(now).min(PAUSE_MAX)
    }
}

/// The pause after so many restarts in a row. Workloads differ by up to a tenth, so that many which fail for the same
/// reason don't come back at the same moment.
fn pause(in_a_row: u32, id: WorkloadId) -> Duration {
    let doubled = PAUSE_MIN.saturating_mul(1u32.checked_shl(in_a_row).unwrap_or(u32::MAX));
    let spread = u32::from(id.as_bytes()[15]) * 100 / 255;
    doubled.saturating_mul(1000 + spread).min(PAUSE_MAX * 1000) / 1000
}

#[cfg(test)]
mod tests;
