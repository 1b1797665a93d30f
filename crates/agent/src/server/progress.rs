//! How far a workload is on its way: its status whenever that changes, and each layer of a pull as it moves.

use std::sync::Arc;

use futures_util::{Stream, stream};
use hypercore_api::v1::{self, progress_event::Event};
use hypercore_cluster::state::WorkloadRecord;
use hypercore_model::WorkloadStatus;
use hypercore_runtime::image::{PullProgress, PullStep};
use tokio::sync::watch;
use tonic::Status;

use super::{Handlers, problem::Problem, target, view};
use crate::board::Observed;

impl Handlers {
    pub(super) fn progress_of(
        &self,
        call: &v1::ProgressRequest,
    ) -> Result<impl Stream<Item = Result<v1::ProgressEvent, Status>> + use<>, Problem> {
        let record = target::known(self, &call.id)?;
        let observed = target::observe(&self.node, record.id);
        let follower = Follower { record, observed, shown: None, queue: Vec::new() };
        Ok(stream::unfold(follower, |mut follower| async move {
            let event = follower.next().await?;
            Some((Ok(v1::ProgressEvent { event: Some(event) }), follower))
        }))
    }
}

struct Follower {
    record: Arc<WorkloadRecord>,
    observed: watch::Receiver<Observed>,
    /// The status and the layers that the caller knows; `None` before the first answer.
    shown: Option<(WorkloadStatus, Vec<PullProgress>)>,
    /// What the caller is still to be told, last first.
    queue: Vec<Event>,
}

impl Follower {
    /// The next thing to tell; `None` when the workload runs or can't.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.queue.pop() {
                return Some(event);
            }
            if self.shown.as_ref().is_some_and(|(status, _)| !is_on_its_way(*status)) {
                return None;
            }
            if self.shown.is_some() && self.observed.changed().await.is_err() {
                return None;
            }
            let observed = self.observed.borrow_and_update().clone();
            self.enqueue(&observed);
            self.shown = Some((observed.status, observed.pull));
        }
    }

    fn enqueue(&mut self, observed: &Observed) {
        let (status, layers) =
            self.shown.take().map_or((None, Vec::new()), |(status, layers)| (Some(status), layers));
        let moved = observed.pull.iter().filter(|layer| !layers.contains(layer));
        self.queue.extend(moved.map(|layer| Event::Pull(pull_progress(layer))));
        self.queue.reverse();
        if status != Some(observed.status) {
            // The queue is popped from its end. A pull's steps came before the status that followed them, and the
            // status "pulling" before its steps.
            let event = Event::State(view::workload(&self.record, observed));
            let is_pull_begun = observed.status == WorkloadStatus::Pulling || status.is_none();
            let position = if is_pull_begun { self.queue.len() } else { 0 };
            self.queue.insert(position, event);
        }
    }
}

const fn is_on_its_way(status: WorkloadStatus) -> bool {
    matches!(status, WorkloadStatus::Pending | WorkloadStatus::Pulling | WorkloadStatus::Starting)
}

/// One layer's progress as the API writes it.
pub(super) fn pull_progress(progress: &PullProgress) -> v1::PullProgress {
    let step = match progress.step {
        PullStep::Waiting => v1::PullStep::Waiting,
        PullStep::Downloading => v1::PullStep::Downloading,
        PullStep::Unpacking => v1::PullStep::Unpacking,
        PullStep::Done => v1::PullStep::Done,
        PullStep::Present => v1::PullStep::Present,
    };
    v1::PullProgress {
        layer: progress.layer.to_string(),
        received: progress.received_bytes,
        total: progress.total_bytes,
        step: step.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hypercore_cluster::state::Desired;
    use hypercore_model::{Attempt, Digest, NodeId, Timestamp, WorkloadId, WorkloadSpec};

    use super::*;

    fn follower(observed: &watch::Sender<Observed>) -> Follower {
        let record = WorkloadRecord {
            id: WorkloadId::from_bytes([1; 16]),
            spec: WorkloadSpec::of_image("web:1".parse().unwrap()),
            node: NodeId::from_bytes([2; 32]),
            attempt: Attempt::FIRST,
            desired: Desired::Running,
            author: NodeId::from_bytes([2; 32]),
            created_at: Timestamp::from_unix_ms(0),
            ended: false,
            expired: false,
        };
        Follower { record: Arc::new(record), observed: observed.subscribe(), shown: None, queue: Vec::new() }
    }

    fn layer(byte: u8, received_bytes: u64) -> PullProgress {
        let layer = format!("sha256:{}", format!("{byte:02x}").repeat(32)).parse::<Digest>().unwrap();
        PullProgress { layer, received_bytes, total_bytes: 10, step: PullStep::Downloading }
    }

    fn set(observed: &watch::Sender<Observed>, status: WorkloadStatus, pull: &[PullProgress]) {
        observed.send_modify(|observed| {
            observed.status = status;
            observed.pull = pull.to_vec();
        });
    }

    /// The next `count` things that are told: a status by its name, a layer by its bytes.
    async fn told(follower: &mut Follower, count: usize) -> Vec<String> {
        let mut told = Vec::new();
        for _ in 0..count {
            let next = tokio::time::timeout(Duration::from_secs(10), follower.next());
            told.push(match next.await.expect("there is more to tell") {
                Some(Event::Pull(progress)) => progress.received.to_string(),
                Some(Event::State(state)) => WorkloadStatus::from(state.status()).to_string(),
                None => "end".into(),
            });
        }
        told
    }

    #[tokio::test]
    async fn layers_come_after_the_pull_began_and_before_what_followed_it() {
        let observed = watch::Sender::new(Observed::pending());
        let mut follower = follower(&observed);
        assert_eq!(told(&mut follower, 1).await, ["pending"]);
        set(&observed, WorkloadStatus::Pulling, &[layer(1, 1), layer(2, 2)]);
        assert_eq!(told(&mut follower, 3).await, ["pulling", "1", "2"]);
        // The second layer did not move, and is not told again.
        set(&observed, WorkloadStatus::Starting, &[layer(1, 9), layer(2, 2)]);
        assert_eq!(told(&mut follower, 2).await, ["9", "starting"]);
        set(&observed, WorkloadStatus::Running, &[layer(1, 9), layer(2, 2)]);
        assert_eq!(told(&mut follower, 2).await, ["running", "end"]);
    }

    #[tokio::test]
    async fn a_late_caller_is_told_the_status_first() {
        let observed = watch::Sender::new(Observed::pending());
        set(&observed, WorkloadStatus::Failed, &[layer(1, 1)]);
        assert_eq!(told(&mut follower(&observed), 3).await, ["failed", "1", "end"]);
    }

    #[tokio::test]
    async fn a_removal_is_the_end_after_what_was_seen_last() {
        let observed = watch::Sender::new(Observed::pending());
        let mut follower = follower(&observed);
        assert_eq!(told(&mut follower, 1).await, ["pending"]);
        set(&observed, WorkloadStatus::Pulling, &[]);
        drop(observed);
        assert_eq!(told(&mut follower, 2).await, ["pulling", "end"]);
    }
}
