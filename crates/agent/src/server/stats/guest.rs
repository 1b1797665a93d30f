//! What the kernels of microVMs say of themselves, beside what the host sees of them. All are asked at the same time.
//! It refuses to wait for one that is silent: its look has no guest's view then, and the others' are not held up.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use hypercore_api::v1;
use hypercore_model::{Isolation, WorkloadId, WorkloadStatus};
use hypercore_runtime::machine::contact::Contact;

use crate::node::Node;

/// How long a guest may take to answer. In software, beside others, it takes some tens of milliseconds.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);
/// Guests that are asked at a time: each takes a connection.
const ASKED_MAX: usize = 256;

/// Adds the guests' view to a look.
pub(super) async fn ask(node: &Node, look: &mut v1::StatsResponse) {
    let machines = look.workloads.iter_mut().filter_map(|stats| {
        let id = stats.id.parse().ok().filter(|id| is_awake(node, *id))?;
        Some((id, stats))
    });
    stream::iter(machines)
        .for_each_concurrent(ASKED_MAX, |(id, stats)| async move { stats.guest = view(node, id).await })
        .await;
}

/// Whether it is a machine that could answer: one that is paused stands still with its monitor.
fn is_awake(node: &Node, id: WorkloadId) -> bool {
    let is_machine = |isolation| isolation == Isolation::MicroVm;
    let of = node.ledger.read(|state| state.workload(&id).map(|record| record.spec.isolation));
    of.is_some_and(is_machine)
        && node.board.get(id).is_some_and(|observed| observed.status == WorkloadStatus::Running)
}

async fn view(node: &Node, id: WorkloadId) -> Option<v1::GuestStats> {
    let socket = node.sandboxes.machine_socket(id);
    let asked = async { Contact::open(&socket).await?.stats(ANSWER_TIME_MAX).await };
    let answered = tokio::time::timeout(ANSWER_TIME_MAX, asked).await.ok()?;
    let stats = answered
        .inspect_err(|error| {
            tracing::debug!(workload = %id, error = error as &dyn std::error::Error, "a guest said nothing of itself");
        })
        .ok()?;
    Some(v1::GuestStats {
        memory_total_bytes: stats.memory_total_bytes,
        memory_available_bytes: stats.memory_available_bytes,
        cpu_usage_us: stats.cpu_usage_us,
        pids: stats.pids,
        disk_used_bytes: stats.disk_used_bytes,
        disk_total_bytes: stats.disk_total_bytes,
    })
}
