//! Finds the workload that a caller names by id, unique prefix or name: one that the state knows, or the kept
//! records of one that was removed (by its full id only, for a removed workload's name may be in use again).

use std::sync::Arc;

use hypercore_cluster::state::WorkloadRecord;
use hypercore_model::WorkloadId;
use tokio::sync::watch;

use super::problem::Problem;
use crate::{board::Observed, directory::WorkloadPaths, node::Node};

/// What a caller's text names.
#[derive(Debug)]
pub(super) enum Target {
    /// A workload of the state.
    Known(Arc<WorkloadRecord>),
    /// The records of a removed one.
    Gone(WorkloadPaths),
}

/// Finds a workload of the state.
pub(super) fn known(node: &Node, text: &str) -> Result<Arc<WorkloadRecord>, Problem> {
    Ok(node.ledger.read(|state| state.resolve(text).cloned())?)
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

/// Whether the state has this workload.
pub(super) fn is_known(node: &Node, id: WorkloadId) -> bool {
    node.ledger.read(|state| state.workload(&id).is_some())
}

/// Finds a workload of the state, or the kept records of a removed one.
pub(super) fn any(node: &Node, text: &str) -> Result<Target, Problem> {
    let unknown = match known(node, text) {
        Ok(record) => return Ok(Target::Known(record)),
        Err(problem) => problem,
    };
    let Ok(id) = text.parse::<WorkloadId>() else { return Err(unknown) };
    let paths = node.directory.workload(id);
    if paths.directory().is_dir() { Ok(Target::Gone(paths)) } else { Err(unknown) }
}
