//! Finds the workload that a caller names by id, unique prefix or name: one that the state knows, or the kept
//! records of one that was removed (by its id only, for a removed workload's name may be in use again).

use std::sync::Arc;

use hypercore_cluster::state::WorkloadRecord;
use hypercore_model::{WorkloadId, WorkloadSpec};
use tokio::{sync::watch, time::Instant};

use super::{Handlers, problem::Problem};
use crate::{access::Caller, board::Observed, directory::WorkloadPaths, node::Node};

/// What a caller's text names.
#[derive(Debug)]
pub(super) enum Target {
    /// A workload of the state.
    Known(Arc<WorkloadRecord>),
    /// The records of a removed one.
    Gone(WorkloadId, WorkloadPaths),
}

/// Finds a workload of the state among those that the caller may know of.
pub(super) fn known(handlers: &Handlers, text: &str) -> Result<Arc<WorkloadRecord>, Problem> {
    let caller = handlers.caller()?;
    let is_seen = |record: &WorkloadRecord| caller.sees(&record.spec.tenant);
    Ok(handlers.node.ledger.read(|state| state.resolve_among(text, is_seen).cloned())?)
}

/// Watches a workload that was found in the state, begun or not. If it was removed meanwhile, the watch is at its end.
pub(super) fn observe(node: &Node, id: WorkloadId) -> watch::Receiver<Observed> {
    node.board.watch(id, || is_known(node, id))
}

/// What was observed of a workload, once its keeper has found out what an earlier run of the agent left: until then a
/// workload that runs looks like one that was never begun.
pub(super) async fn recovered(node: &Node, id: WorkloadId) -> Observed {
    let mut observed = observe(node, id);
    // An error means that it was removed: what was seen last is all there will be.
    drop(observed.wait_for(|observed| observed.is_recovered).await);
    observed.borrow().clone()
}

/// The same, but no later than at `deadline`.
pub(super) async fn recovered_by(node: &Node, id: WorkloadId, deadline: Instant) -> Observed {
    let waited = tokio::time::timeout_at(deadline, recovered(node, id)).await;
    waited.unwrap_or_else(|_| observe(node, id).borrow().clone())
}

/// Whether the state has this workload.
pub(super) fn is_known(node: &Node, id: WorkloadId) -> bool {
    node.ledger.read(|state| state.workload(&id).is_some())
}

/// Finds a workload of the state, or the kept records of a removed one.
pub(super) fn any(handlers: &Handlers, text: &str) -> Result<Target, Problem> {
    let unknown = match known(handlers, text) {
        Ok(record) => return Ok(Target::Known(record)),
        Err(problem) => problem,
    };
    let Some(id) = gone(handlers, text) else { return Err(unknown) };
    let paths = handlers.node.directory.workload(id);
    if is_seen(handlers.caller()?, &paths) { Ok(Target::Gone(id, paths)) } else { Err(unknown) }
}

/// The one removed workload whose id begins so, if its directory is still there.
fn gone(handlers: &Handlers, text: &str) -> Option<WorkloadId> {
    if text.is_empty() {
        return None;
    }
    let ids = handlers.node.directory.workload_ids().ok()?;
    let mut meant = ids.into_iter().filter(|id| id.has_prefix(text) && !is_known(&handlers.node, *id));
    let first = meant.next()?;
    meant.next().is_none().then_some(first)
}

/// Whether the caller may know of a removed workload: what was asked for is still in its directory. One of which that
/// can't be read is nobody's but the whole node's.
fn is_seen(caller: &Caller, paths: &WorkloadPaths) -> bool {
    let read = || serde_json::from_slice::<WorkloadSpec>(&std::fs::read(paths.spec()).ok()?).ok();
    !caller.is_bound() || read().is_some_and(|spec| caller.sees(&spec.tenant))
}
