//! Makes sure that every workload this node should run has its keeper. Keepers end by themselves.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use hypercore_model::WorkloadId;

use crate::{
    keeper,
    node::Node,
    supervisor::{RestartPolicy, Supervisor},
};

/// The workloads that have a keeper now.
#[derive(Debug, Clone, Default)]
struct Kept(Arc<Mutex<BTreeSet<WorkloadId>>>);

impl Kept {
    /// Whether the workload had no keeper; it counts as kept from here on.
    fn claim(&self, id: WorkloadId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id)
    }

    fn release(&self, id: WorkloadId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }
}

/// Runs until the ledger closes.
pub(crate) async fn run(node: Arc<Node>, supervisor: Supervisor) {
    let kept = Kept::default();
    let mut changes = node.ledger.changes();
    loop {
        changes.mark_unchanged();
        let wanted: Vec<WorkloadId> = node.ledger.read(|state| {
            state.workloads().filter(|record| record.node == node.identity).map(|record| record.id).collect()
        });
        for id in wanted {
            if kept.claim(id) {
                spawn_keeper(&node, &supervisor, &kept, id);
            }
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

fn spawn_keeper(node: &Arc<Node>, supervisor: &Supervisor, kept: &Kept, id: WorkloadId) {
    let (node, kept) = (Arc::clone(node), kept.clone());
    supervisor.spawn(format!("keeper/{}", id.short()), RestartPolicy::OnPanic, move || {
        let (node, kept) = (Arc::clone(&node), kept.clone());
        async move {
            keeper::keep(node, id).await;
            kept.release(id);
        }
    });
}
