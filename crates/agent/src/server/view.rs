//! What callers are shown of a workload: its record in the state joined with what the node observed of it.

use hypercore_api::v1;
use hypercore_cluster::state::WorkloadRecord;
use hypercore_model::Timestamp;
use tokio::time::Instant;

use crate::{board::Observed, failure::Failure};

/// One workload as the API shows it.
pub(super) fn workload(record: &WorkloadRecord, observed: &Observed) -> v1::WorkloadState {
    let failure = pause(observed).or_else(|| wait(observed)).or_else(|| observed.failure.clone());
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
        address6: observed.address6.map(|address| address.to_string()).unwrap_or_default(),
        // A workload's place in the world is for those to add who know the node's doors.
        url: String::new(),
        snapshot: record.spec.snapshot.as_ref().map(ToString::to_string).unwrap_or_default(),
        restarts: observed.restarts,
        attempt: record.attempt.number(),
        vmm: observed.run_by.map(|by| by.monitor.as_str().to_owned()).unwrap_or_default(),
        accelerator: observed.run_by.map(|by| by.accelerator.as_str().to_owned()).unwrap_or_default(),
        pid: observed.sandbox.as_ref().and_then(|sandbox| sandbox.pid().try_into().ok()).unwrap_or(0),
    }
}

/// What the start of a workload waits for.
fn wait(observed: &Observed) -> Option<Failure> {
    let message = format!("waiting until {}", observed.awaited?);
    Some(Failure { code: "waiting".into(), message, hint: String::new() })
}

/// Why a workload that should run doesn't at the moment.
fn pause(observed: &Observed) -> Option<Failure> {
    let (due, last) = (observed.due?, observed.last_run.as_ref()?);
    let left = due.saturating_duration_since(Instant::now());
    // Rounded up: what is due in an instant is not due yet.
    let seconds = left.as_millis().div_ceil(1000);
    Some(Failure {
        code: "restarting".into(),
        message: format!("restarting in {seconds} s after {}", last.how),
        hint: "`hypercore logs` shows what it wrote; `hypercore stop` ends the restarts".into(),
    })
}
