//! What the node counts, in OpenMetrics text. Names are promises; gauges are read from the node when asked for.

use std::sync::atomic::Ordering;

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use hypercore_model::WorkloadStatus;

use crate::node::Node;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabel {
    status: &'static str,
}

/// The node's counters, and the registry that names them.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    workload_count: Gauge,
    workloads_by_status: Family<StatusLabel, Gauge>,
    state_height: Gauge,
    state_changes: Counter,
}

impl Metrics {
    /// All counters at zero.
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        let workload_count = Gauge::default();
        registry.register(
            "hypercore_workload_count",
            "Workloads with processes on this node",
            workload_count.clone(),
        );
        let workloads_by_status = Family::<StatusLabel, Gauge>::default();
        registry.register(
            "hypercore_workloads",
            "Workloads of this node at each status",
            workloads_by_status.clone(),
        );
        let state_height = Gauge::default();
        registry.register("hypercore_state_height", "Commands applied to the state", state_height.clone());
        let state_changes = Counter::default();
        registry.register(
            "hypercore_state_changes",
            "Commands applied since the agent started",
            state_changes.clone(),
        );
        Self { registry, workload_count, workloads_by_status, state_height, state_changes }
    }

    /// The node's metrics as OpenMetrics text.
    ///
    /// # Errors
    /// Never in practice: writing to a string can't fail.
    pub(crate) fn render(&self, node: &Node) -> Result<String, std::fmt::Error> {
        self.workload_count.set(i64::try_from(node.board.running_count()).unwrap_or(i64::MAX));
        let counts = node.board.count_by_status();
        for status in WorkloadStatus::ALL {
            let count = counts.get(&status).copied().unwrap_or_default();
            let gauge = self.workloads_by_status.get_or_create(&StatusLabel { status: status.as_str() });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let height = node.ledger.read(|state| state.height());
        self.state_height.set(i64::try_from(height).unwrap_or(i64::MAX));
        let since_start = height.saturating_sub(node.ledger.opened_at_height());
        // Set and not added up: two callers who ask at once must not count anything twice.
        self.state_changes.inner().store(since_start, Ordering::Relaxed);
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
