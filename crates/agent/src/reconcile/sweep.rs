//! Removes what no workload of the state owns: namespaces, links, port rules, cgroups, shims and directories that a
//! crash left behind, and the records of removed workloads whose time is over.
//! It refuses to touch anything that isn't named after this node.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use hypercore_model::WorkloadId;
use hypercore_runtime::bundle;

use crate::{failure::chain, gone, node::Node};

/// How often leftovers are looked for, if records are kept that long. Keepers clean up after themselves; this is for what
/// they could not.
const PERIOD_MAX: Duration = Duration::from_secs(60);
/// The least time between two looks.
const PERIOD_MIN: Duration = Duration::from_secs(1);

/// Runs until it is dropped.
pub(crate) async fn run(node: Arc<Node>) {
    let mut ticks = tokio::time::interval(node.records_keep.clamp(PERIOD_MIN, PERIOD_MAX));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        sweep(&node).await;
    }
}

/// Whatever is made for a workload is made after the state knows it. So each kind of leftover is looked for first, and
/// only then is it asked which workloads are known: what is unknown by then is nobody's.
async fn sweep(node: &Node) {
    sweep_shims(node).await;
    sweep_directories(node).await;
    report("network", node.network.sweep(|| known(node)).await);
    report("cgroups", node.cgroups.sweep(|| known(node)));
}

/// The workloads of the state, and those that were removed and whose keeper is still at work.
fn known(node: &Node) -> BTreeSet<WorkloadId> {
    let mut known = node.board.ids();
    node.ledger.read(|state| known.extend(state.workloads().map(|record| record.id)));
    known
}

async fn sweep_shims(node: &Node) {
    let shims = match node.sandboxes.scan() {
        Ok(shims) => shims,
        Err(error) => return tracing::warn!(error = chain(&error), "could not look for shims"),
    };
    let known = known(node);
    for id in shims.into_iter().filter(|id| !known.contains(id)) {
        tracing::warn!(workload = %id, "ending a shim that no workload owns");
        report("a shim", node.sandboxes.destroy(id).await);
    }
}

async fn sweep_directories(node: &Node) {
    let ids = match node.directory.workload_ids() {
        Ok(ids) => ids,
        Err(error) => return tracing::warn!(%error, "could not list the workloads' directories"),
    };
    let known = known(node);
    for id in ids.into_iter().filter(|id| !known.contains(id)) {
        let (paths, keep) = (node.directory.workload(id), node.records_keep);
        let swept = tokio::task::spawn_blocking(move || {
            bundle::discard(paths.directory()).map_err(|error| chain(&error))?;
            gone::bury(&paths)
                .and_then(|()| gone::forget_when_old(&paths, keep))
                .map_err(|error| chain(&error))
        });
        match swept.await {
            Ok(Ok(true)) => tracing::info!(workload = %id, "forgot the records of a removed workload"),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => tracing::warn!(workload = %id, error, "could not sweep its directory"),
            Err(error) => tracing::warn!(workload = %id, %error, "could not sweep its directory"),
        }
    }
}

fn report<T: std::fmt::Debug, E: std::error::Error>(what: &str, result: Result<T, E>) {
    match result {
        Ok(found) => tracing::debug!(?found, "swept {what}"),
        Err(error) => tracing::warn!(error = chain(&error), "could not sweep {what}"),
    }
}
