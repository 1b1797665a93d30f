//! Removes what no workload of the state owns: namespaces, links, port rules, cgroups, shims and directories that a
//! crash left behind, and the records of removed workloads whose time is over.
//! It refuses to touch anything that isn't named after this node.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use hypercore_model::WorkloadId;
use hypercore_runtime::bundle;

use crate::{failure::chain, gone, node::Node};

/// How often leftovers are looked for. Keepers clean up after themselves; this is for what they could not.
const PERIOD: Duration = Duration::from_secs(60);

/// Runs until it is dropped.
pub(crate) async fn run(node: Arc<Node>) {
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        sweep(&node).await;
    }
}

async fn sweep(node: &Node) {
    // Read before looking at the machine: whatever is made from here on belongs to a workload that is known then
    // or newer, and a newer one is found by `is_wanted` below.
    let keep: BTreeSet<WorkloadId> =
        node.ledger.read(|state| state.workloads().map(|record| record.id).collect());
    sweep_shims(node, &keep).await;
    sweep_directories(node, &keep).await;
    report("network", node.network.sweep(&keep).await);
    report("cgroups", node.cgroups.sweep(&keep));
}

async fn sweep_shims(node: &Node, keep: &BTreeSet<WorkloadId>) {
    let shims = match node.sandboxes.scan() {
        Ok(shims) => shims,
        Err(error) => return tracing::warn!(error = chain(&error), "could not look for shims"),
    };
    for id in shims.into_iter().filter(|id| !keep.contains(id) && !is_wanted(node, *id)) {
        tracing::warn!(workload = %id, "ending a shim that no workload owns");
        report("a shim", node.sandboxes.destroy(id).await);
    }
}

async fn sweep_directories(node: &Node, keep: &BTreeSet<WorkloadId>) {
    let orphans = match node.directory.workload_ids() {
        Ok(ids) => ids.into_iter().filter(|id| !keep.contains(id) && !is_wanted(node, *id)),
        Err(error) => return tracing::warn!(%error, "could not list the workloads' directories"),
    };
    for id in orphans {
        let paths = node.directory.workload(id);
        let swept = tokio::task::spawn_blocking(move || {
            bundle::discard(paths.directory()).map_err(|error| chain(&error))?;
            gone::bury(&paths).and_then(|()| gone::forget_when_old(&paths)).map_err(|error| chain(&error))
        });
        match swept.await {
            Ok(Ok(true)) => tracing::info!(workload = %id, "forgot the records of a removed workload"),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => tracing::warn!(workload = %id, error, "could not sweep its directory"),
            Err(error) => tracing::warn!(workload = %id, %error, "could not sweep its directory"),
        }
    }
}

/// A removed workload's keeper may still be at work: it is known to the board until it is done.
fn is_wanted(node: &Node, id: WorkloadId) -> bool {
    node.board.get(id).is_some() || node.ledger.read(|state| state.workload(&id).is_some())
}

fn report<T: std::fmt::Debug, E: std::error::Error>(what: &str, result: Result<T, E>) {
    match result {
        Ok(found) => tracing::debug!(?found, "swept {what}"),
        Err(error) => tracing::warn!(error = chain(&error), "could not sweep {what}"),
    }
}
