//! `List` and `Inspect`: workloads as they are now. They refuse to show a guess: just after the agent's start they wait a
//! moment for what an earlier run left to be found.

use std::{sync::Arc, time::Duration};

use hypercore_api::v1;
use hypercore_cluster::state::WorkloadRecord;
use tokio::time::Instant;

use super::{
    Handlers,
    problem::Problem,
    target::{self, Target},
    view,
};
use crate::{board::Observed, keeper};

/// How long a caller waits for that at most. A shim that hangs must not keep the others from being shown.
const RECOVERY_TIME_MAX: Duration = Duration::from_secs(3);

impl Handlers {
    pub(super) async fn list_workloads(
        &self,
        call: v1::ListRequest,
    ) -> Result<v1::NodesStateResponse, Problem> {
        let caller = self.caller()?;
        let is_seen = |record: &&Arc<WorkloadRecord>| caller.sees(&record.spec.tenant);
        let records: Vec<Arc<WorkloadRecord>> =
            self.node.ledger.read(|state| state.workloads().filter(is_seen).cloned().collect());
        let deadline = Instant::now() + RECOVERY_TIME_MAX;
        let mut workloads = Vec::with_capacity(records.len());
        for record in &records {
            let observed = target::recovered_by(&self.node, record.id, deadline).await;
            if call.all || !observed.status.is_final() {
                workloads.push(self.described(record, &observed));
            }
        }
        workloads.sort_by(|a, b| b.created_at_ms.cmp(&a.created_at_ms).then_with(|| a.id.cmp(&b.id)));
        let node = Some(self.this_node());
        let state = v1::NodeStateResponse { node, workloads, state_signature: Vec::new() };
        Ok(v1::NodesStateResponse { nodes: vec![state] })
    }

    pub(super) async fn inspect_workload(
        &self,
        call: v1::InspectRequest,
    ) -> Result<v1::InspectResponse, Problem> {
        let workload = match target::any(self, &call.id)? {
            Target::Known(record) => {
                let deadline = Instant::now() + RECOVERY_TIME_MAX;
                let observed = target::recovered_by(&self.node, record.id, deadline).await;
                self.described(&record, &observed)
            }
            Target::Gone(id, paths) => {
                let (record, observed) =
                    keeper::read_last(id, self.node.identity, &paths).ok_or_else(|| {
                        Problem::not_found(
                            "workload_not_found",
                            format!("nothing is known of workload {id} any more"),
                        )
                    })?;
                view::workload(&record, &observed)
            }
        };
        Ok(v1::InspectResponse { workload: Some(workload) })
    }

    /// A workload of the state, with where the ingress serves it.
    fn described(&self, record: &WorkloadRecord, observed: &Observed) -> v1::WorkloadState {
        v1::WorkloadState { url: self.node.urls.of(record), ..view::workload(record, observed) }
    }
}
