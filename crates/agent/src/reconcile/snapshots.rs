//! Removes the snapshots that were made for clones alone, once every clone has what it needs of them.
//! It refuses to touch any that somebody named.

use std::sync::Arc;

use hypercore_model::{SnapshotName, WorkloadStatus};
use hypercore_runtime::machine::snapshot::SnapshotError;

use crate::{failure::chain, node::Node};

/// Runs until the node goes down.
pub(crate) async fn run(node: Arc<Node>) {
    let (mut moves, mut wishes, mut released) =
        (node.board.changes(), node.ledger.changes(), node.forks.changes());
    loop {
        for changes in [&mut moves, &mut wishes, &mut released] {
            changes.mark_unchanged();
        }
        for name in node.forks.idle() {
            if !is_awaited(&node, &name) {
                remove(&node, name).await;
            }
        }
        let changed = tokio::select! {
            changed = moves.changed() => changed,
            changed = wishes.changed() => changed,
            changed = released.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

/// Whether a workload is still to go on from it.
fn is_awaited(node: &Node, name: &SnapshotName) -> bool {
    let clones: Vec<_> = node.ledger.read(|state| {
        let is_clone = |spec: &hypercore_model::WorkloadSpec| spec.snapshot.as_ref() == Some(name);
        state.workloads().filter(|record| is_clone(&record.spec)).map(|record| record.id).collect()
    });
    clones.into_iter().any(|id| {
        let Some(observed) = node.board.get(id) else { return true };
        let is_on_its_way = matches!(
            observed.status,
            WorkloadStatus::Pending | WorkloadStatus::Pulling | WorkloadStatus::Starting
        );
        !observed.is_recovered || (is_on_its_way && observed.restarts == 0)
    })
}

async fn remove(node: &Node, name: SnapshotName) {
    let (store, removed) = (node.snapshots.clone(), name.clone());
    node.forks.forget(&name);
    match tokio::task::spawn_blocking(move || store.remove(&removed)).await {
        // It could not be made.
        Ok(Err(SnapshotError::NotFound(_))) => {}
        Ok(Ok(())) => tracing::debug!(snapshot = %name, "removed a snapshot that no clone waits for"),
        Ok(Err(error)) => tracing::warn!(snapshot = %name, error = chain(&error), "could not remove it"),
        Err(error) => tracing::warn!(snapshot = %name, %error, "could not remove it"),
    }
}
