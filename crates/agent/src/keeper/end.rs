//! How runs end, and what follows: another run, or nothing more. It refuses to hold up the end: what can't be written
//! or taken down is found again later.

use std::fmt;

use hypercore_cluster::state::{Command, Desired, Resources, WorkloadRecord};
use hypercore_model::{ExitStatus, Timestamp, WorkloadStatus, exit::ExitRecord, lifecycle::LifecycleEvent};
use hypercore_runtime::{machine::ending, sandbox::ShimVanished};

use super::{
    Keeper,
    outcome::{self, Outcome},
    runs::Runs,
};
use crate::{
    board::Observed,
    clock,
    events::{Action, Event},
    failure::Failure,
};

/// The signal that nothing withstands (signal(7)).
const SIGKILL: u8 = 9;

/// How one run ended.
#[derive(Debug, Clone)]
pub(crate) enum End {
    /// Its first process ended.
    Exited(ExitRecord),
    /// Nobody knows how: when it had started, if that is known, and when it was found out.
    Lost(Option<Timestamp>, Timestamp),
    /// It never began, for this reason.
    NotStarted(Failure, Timestamp),
}

impl End {
    /// What the wait for its first process came to.
    pub(super) fn of(exited: Result<ExitRecord, ShimVanished>, started_at: Option<Timestamp>) -> Self {
        exited.map_or_else(|ShimVanished| Self::Lost(started_at, clock::now()), Self::Exited)
    }

    pub(super) const fn exit(&self) -> Option<ExitStatus> {
        match self {
            Self::Exited(record) => Some(record.exit),
            Self::Lost(..) | Self::NotStarted(..) => None,
        }
    }

    pub(super) const fn started_at(&self) -> Option<Timestamp> {
        match self {
            Self::Exited(record) => Some(record.started_at),
            Self::Lost(started_at, _) => *started_at,
            Self::NotStarted(..) => None,
        }
    }

    pub(super) const fn finished_at(&self) -> Timestamp {
        match self {
            Self::Exited(record) => record.finished_at,
            Self::Lost(_, at) | Self::NotStarted(_, at) => *at,
        }
    }

    pub(super) const fn is_failed_start(&self) -> bool {
        matches!(self, Self::NotStarted(..))
    }

    const fn status(&self) -> WorkloadStatus {
        match self {
            Self::Exited(_) => WorkloadStatus::Stopped,
            Self::Lost(..) => WorkloadStatus::Lost,
            Self::NotStarted(..) => WorkloadStatus::Failed,
        }
    }

    const fn lifecycle_event(&self) -> LifecycleEvent {
        match self {
            Self::Exited(_) => LifecycleEvent::Exited,
            Self::Lost(..) => LifecycleEvent::ShimVanished,
            Self::NotStarted(..) => LifecycleEvent::StartFailed,
        }
    }

    /// Why it ended so, where there is more to say than an exit status does.
    fn failure(&self) -> Option<Failure> {
        match self {
            Self::Exited(record) => {
                (record.lost_output_bytes > 0).then(|| output_lost(record.lost_output_bytes))
            }
            Self::Lost(..) => Some(shim_vanished()),
            Self::NotStarted(failure, _) => Some(failure.clone()),
        }
    }

    fn event(&self, record: &WorkloadRecord) -> Event {
        match self {
            Self::Exited(exit) => Event::workload(Action::Exited, record).with_exit(exit.exit),
            Self::Lost(..) => Event::workload(Action::Lost, record).with("reason", shim_vanished()),
            Self::NotStarted(failure, _) => Event::workload(Action::Failed, record)
                .with("reason", &failure.message)
                .with("reason_code", &failure.code),
        }
    }
}

impl fmt::Display for End {
    /// After `restarting in 3 s after`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(ExitRecord { exit: ExitStatus::Code(code), .. }) => write!(f, "exit code {code}"),
            Self::Exited(ExitRecord { exit: ExitStatus::Signal(signal), .. }) => write!(f, "signal {signal}"),
            Self::Exited(ExitRecord { exit: ExitStatus::OutOfMemory, .. }) => {
                f.write_str("it ran out of memory")
            }
            Self::Lost(..) => f.write_str("it was lost"),
            Self::NotStarted(failure, _) => write!(f, "a failed start: {failure}"),
        }
    }
}

impl Keeper {
    /// Records how a run ended, takes down what was put up for it, and sees to what follows.
    pub(super) async fn settle(&self, record: &WorkloadRecord, end: End) {
        tracing::info!(workload = %self.id, %end, "ended");
        // A stop, or the removal, may have come while it ended.
        let latest = self.wanted();
        let is_wanted = latest.as_ref().is_some_and(|latest| latest.desired == Desired::Running);
        let fallen = self.fallen(&end).filter(|_| is_wanted);
        self.node.events.publish(match &fallen {
            Some(failure) => {
                end.event(record).with("reason", &failure.message).with("reason_code", &failure.code)
            }
            None => end.event(record),
        });
        let may_restart = latest.as_ref().is_some_and(|latest| {
            latest.desired == Desired::Running && latest.attempt == record.attempt && !self.is_expired(latest)
        });
        let runs = self.runs(record);
        let next = runs.after(record.spec.restart, self.id, &end, clock::now()).filter(|_| may_restart);
        match next {
            Some(next) => self.pause(&next, &end).await,
            None => self.finish(latest.as_deref().unwrap_or(record), &runs, &end, fallen).await,
        }
    }

    /// That its machine ended under it, where a status tells of a kill and no more.
    fn fallen(&self, end: &End) -> Option<Failure> {
        let note = ending::take(self.paths.directory())?;
        (end.exit() == Some(ExitStatus::Signal(SIGKILL))).then(|| Failure {
            code: "machine_ended".into(),
            message: format!("its machine ended under it: {note}"),
            hint: format!("the whole console is in {}", self.paths.directory().join("console.log").display()),
        })
    }

    /// Waits for the next run. Its files, its address and its ports stay.
    async fn pause(&self, next: &Runs, end: &End) {
        self.take_down_processes().await;
        if let Err(error) = self.remember(next.clone()) {
            // The end is still on the disk: an agent that starts now decides anew.
            tracing::warn!(workload = %self.id, %error, "could not write that it will be started again");
        } else {
            outcome::forget(&[self.paths.exit(), self.paths.exit_reserved()]);
        }
        self.show_pause(next, end.lifecycle_event());
    }

    /// Lets everybody see the pause, with the end and the way back to the beginning in one step.
    pub(super) fn show_pause(&self, next: &Runs, event: LifecycleEvent) {
        let Some(pause) = next.pause() else { return };
        let left = pause.left(clock::now());
        self.update(|observed| {
            if observed.status != WorkloadStatus::Pending {
                observed.advance(event);
            }
            let (ports, address) = (std::mem::take(&mut observed.ports), observed.address);
            *observed = Observed {
                is_recovered: observed.is_recovered,
                image_digest: observed.image_digest,
                stop_signal: observed.stop_signal,
                restarts: next.restarts,
                due: Some(tokio::time::Instant::now() + left),
                last_run: Some(pause.last.clone()),
                started_at: pause.last.started_at,
                finished_at: Some(pause.last.finished_at),
                ports,
                address,
                ..Observed::pending()
            };
        });
        tracing::info!(workload = %self.id, ?left, restarts = next.restarts, "it will be started again");
    }

    /// Nothing more of it will run.
    async fn finish(&self, record: &WorkloadRecord, runs: &Runs, end: &End, fallen: Option<Failure>) {
        self.take_down().await;
        let failure = if record.expired { Some(ttl_over(record)) } else { fallen.or_else(|| end.failure()) };
        let outcome = Outcome {
            attempt: record.attempt,
            status: end.status(),
            finished_at: end.finished_at(),
            failure,
            exit: end.exit(),
            started_at: end.started_at(),
            restarts: runs.restarts,
            image_digest: self.observed().image_digest,
            created_at: Some(record.created_at),
        };
        self.conclude(record, outcome, Some(end.lifecycle_event()));
    }

    /// A workload that was told to stop while nothing of it ran.
    pub(super) async fn give_up(&self, record: &WorkloadRecord) {
        let runs = self.runs(record);
        // What is put up stays between two runs.
        self.take_down().await;
        let last = runs.pause().map(|pause| pause.last.clone());
        let outcome = Outcome {
            attempt: record.attempt,
            status: WorkloadStatus::Stopped,
            finished_at: last.as_ref().map_or_else(clock::now, |last| last.finished_at),
            failure: record.expired.then(|| ttl_over(record)),
            exit: last.as_ref().and_then(|last| last.exit),
            started_at: last.and_then(|last| last.started_at),
            restarts: runs.restarts,
            image_digest: self.observed().image_digest,
            created_at: Some(record.created_at),
        };
        self.update(|observed| observed.advance(LifecycleEvent::StopAsked));
        self.conclude(record, outcome, Some(LifecycleEvent::StartFailed));
    }

    /// Writes and shows the last end.
    fn conclude(&self, record: &WorkloadRecord, outcome: Outcome, event: Option<LifecycleEvent>) {
        outcome::write_spec(&self.paths, &record.spec);
        if outcome::write(&self.paths, &outcome) {
            outcome::forget(&[self.paths.runs(), self.paths.exit_reserved()]);
        }
        self.update(|observed| {
            if let Some(event) = event {
                observed.advance(event);
            }
            outcome.show(observed);
        });
        if matches!(record.desired, Desired::Stopped { .. }) {
            let stopped = Event::workload(Action::Stopped, record);
            self.node.events.publish(match &outcome.failure {
                Some(failure) => stopped.with("reason", failure),
                None => stopped,
            });
        }
    }

    /// What the state has to know of a last end: that the workload is to go with it, or that its room is free again.
    /// Answers whether nothing is left to be said.
    pub(super) async fn report_end(&self, record: &WorkloadRecord) -> bool {
        let command = if record.spec.remove_on_exit {
            Command::RemoveWorkload { id: self.id }
        } else if !record.ended && !Resources::of(&record.spec).is_none() {
            Command::EndWorkload { id: self.id, attempt: record.attempt }
        } else {
            return true;
        };
        match self.node.ledger.submit(command).await {
            Ok(_) => true,
            Err(error) => {
                let error = crate::failure::chain(&error);
                tracing::warn!(workload = %self.id, error, "the state could not be told of its end; trying again");
                false
            }
        }
    }
}

/// Why it was stopped although nobody asked for that.
fn ttl_over(record: &WorkloadRecord) -> Failure {
    let ttl = std::time::Duration::from_millis(record.spec.ttl_ms.unwrap_or_default());
    Failure {
        code: "ttl_over".into(),
        message: format!("its time to live of {} is over", humantime::format_duration(ttl)),
        hint: "run it with a longer `--ttl`, or without one".into(),
    }
}

fn shim_vanished() -> Failure {
    Failure {
        code: "shim_vanished".into(),
        message: "the process that watched over it is gone, so how it ended is unknown".into(),
        hint: "its logs up to then are kept; start it again with `hypercore run`".into(),
    }
}

fn output_lost(bytes: u64) -> Failure {
    Failure {
        code: "output_lost".into(),
        message: format!("the last {bytes} bytes of its output were lost: the log could not be written"),
        hint: "free space in the data directory".into(),
    }
}
