//! What only a node itself can know: what it has to give, that a workload of its own has ended for good, that one's time
//! is over. It refuses such a word from anybody else.

use hypercore_model::{Attempt, NodeId, WorkloadId};
use hypercore_trust::Verified;

use super::Applied;
use crate::state::{
    State,
    command::AuthoredCommand,
    event::Event,
    record::{Desired, NodeRecord, WorkloadRecord},
    rejection::Rejection,
    room::Resources,
    row::{Change, Row},
};

/// Grace period of a stop that nobody has said one for, in milliseconds: 10 s, as docker has it.
pub const GRACE_MS_DEFAULT: u64 = 10_000;

impl State {
    pub(super) fn plan_end(
        &self,
        author: NodeId,
        id: WorkloadId,
        attempt: Attempt,
    ) -> Result<Applied, Rejection> {
        let existing = self.own_workload(author, id)?;
        if attempt != existing.attempt {
            return Err(Rejection::Superseded { id, attempt, current: existing.attempt });
        }
        if existing.ended {
            return Ok(Applied::default());
        }
        let record = WorkloadRecord { ended: true, ..existing.clone() };
        Ok(Applied {
            events: vec![Event::WorkloadEnded { id, node: author }],
            changes: vec![Change::Workload(id, Row::new(record))],
        })
    }

    pub(super) fn plan_expire(&self, author: NodeId, id: WorkloadId) -> Result<Applied, Rejection> {
        let existing = self.own_workload(author, id)?;
        if existing.spec.ttl_ms.is_none() {
            return Err(Rejection::NoTtl(id));
        }
        if existing.desired != Desired::Running {
            return Ok(Applied::default());
        }
        let grace_ms = existing.spec.stop_grace_ms.unwrap_or(GRACE_MS_DEFAULT);
        let desired = Desired::Stopped { signal: None, grace_ms };
        let record = WorkloadRecord { desired, expired: true, ..existing.clone() };
        Ok(Applied {
            events: vec![Event::WorkloadStopAsked { id, node: author }],
            changes: vec![Change::Workload(id, Row::new(record))],
        })
    }

    /// A workload that runs on the author's own node.
    fn own_workload(&self, author: NodeId, id: WorkloadId) -> Result<&WorkloadRecord, Rejection> {
        let existing = self.workload(&id).ok_or(Rejection::UnknownWorkload(id))?;
        let is_own = existing.node == author;
        if is_own { Ok(existing) } else { Err(Rejection::NotItself { author, node: existing.node }) }
    }
}

/// Writes the author's record, with the command counted: what every other command leaves to its caller.
pub(super) fn plan_capacity(
    command: &Verified<AuthoredCommand>,
    node: NodeId,
    capacity: Resources,
    record: &NodeRecord,
) -> Result<Applied, Rejection> {
    let author = command.signer();
    if node != author {
        return Err(Rejection::NotItself { author, node });
    }
    let is_same = record.capacity == Some(capacity);
    let events = if is_same { Vec::new() } else { vec![Event::CapacitySet { node }] };
    let record = NodeRecord { sequence: command.sequence, capacity: Some(capacity), ..record.clone() };
    Ok(Applied { events, changes: vec![Change::Node(author, Row::new(record))] })
}
