//! What callers are shown of a workload: its record in the state joined with what the node observed of it.

use hypercore_api::v1;
use hypercore_cluster::state::WorkloadRecord;
use hypercore_model::Timestamp;

use crate::{board::Observed, node::Node};

/// One workload as the API shows it.
pub(super) fn workload(node: &Node, record: &WorkloadRecord) -> v1::WorkloadState {
    let observed = node.board.get(record.id).unwrap_or_else(Observed::pending);
    workload_observed(record, &observed)
}

/// One workload as the API shows it, from an observation at hand.
pub(super) fn workload_observed(record: &WorkloadRecord, observed: &Observed) -> v1::WorkloadState {
    let failure = observed.failure.clone();
    let (reason_code, reason, reason_hint) =
        failure.map_or_else(Default::default, |failure| (failure.code, failure.message, failure.hint));
    v1::WorkloadState {
        id: record.id.to_string(),
        source_request: Some((&record.spec).into()),
        status: v1::WorkloadStatus::from(observed.status).into(),
        node: record.node.to_string(),
        created_at_ms: record.created_at.unix_ms(),
        started_at_ms: observed.started_at.map(Timestamp::unix_ms),
        finished_at_ms: observed.finished_at.map(Timestamp::unix_ms),
        exit: observed.exit.map(Into::into),
        reason,
        reason_code,
        reason_hint,
        ports: observed.ports.iter().map(ToString::to_string).collect(),
        image_digest: observed.image_digest.map(|digest| digest.to_string()).unwrap_or_default(),
        address: observed.address.map(|address| address.to_string()).unwrap_or_default(),
        restarts: 0,
        attempt: record.attempt.number(),
        pid: observed.sandbox.as_ref().and_then(|sandbox| sandbox.pid().try_into().ok()).unwrap_or(0),
    }
}
