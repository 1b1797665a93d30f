//! What programs and people are shown of a node. Field names are a contract.

use hypercore_api::v1;
use hypercore_model::{Timestamp, units::format_size};
use serde::Serialize;

use crate::{age, table::Table};

/// Characters of a node's id that are shown in tables.
const SHORT_LEN: usize = 16;

/// One node, as `node ls --json` prints it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct NodeView {
    pub(super) id: String,
    status: &'static str,
    version: String,
    started_at: String,
    workloads_running: u32,
    capacity: Option<Amount>,
    reserved: Option<Amount>,
    used: Option<Used>,
    data_directory: String,
    runtime_directory: String,
    state_height: u64,
    pid: u32,
    /// What runs microVMs; `None` when nothing does.
    vmm: Option<String>,
    /// Why nothing better does, or nothing.
    vmm_reason: Option<String>,
    #[serde(skip)]
    started: Timestamp,
}

/// An amount of processors and memory.
#[derive(Debug, Clone, Copy, Serialize)]
struct Amount {
    cpu_millis: u32,
    memory_bytes: u64,
}

/// What workloads use now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Used {
    cpu_millis: u32,
    memory_bytes: u64,
    pids: u32,
    network_received_bytes: u64,
    network_sent_bytes: u64,
    disk_read_bytes: u64,
    disk_written_bytes: u64,
}

impl Used {
    /// The sum over all workloads of one look.
    pub(super) fn of(look: &v1::StatsResponse) -> Self {
        look.workloads.iter().fold(Self::default(), |sum, one| Self {
            cpu_millis: sum.cpu_millis.saturating_add(one.cpu_millis),
            memory_bytes: sum.memory_bytes.saturating_add(one.memory_bytes),
            pids: sum.pids.saturating_add(one.pids),
            network_received_bytes: sum.network_received_bytes.saturating_add(one.network_received_bytes),
            network_sent_bytes: sum.network_sent_bytes.saturating_add(one.network_sent_bytes),
            disk_read_bytes: sum.disk_read_bytes.saturating_add(one.disk_read_bytes),
            disk_written_bytes: sum.disk_written_bytes.saturating_add(one.disk_written_bytes),
        })
    }
}

impl NodeView {
    /// The view of a node as it describes itself.
    pub(super) fn new(info: &v1::NodeInfoResponse, used: Option<Used>) -> Self {
        let node = info.node.clone().unwrap_or_default();
        let amount = |resources: &v1::Resources| Amount {
            cpu_millis: resources.cpu_millis,
            memory_bytes: resources.memory_bytes,
        };
        let started = Timestamp::from_unix_ms(info.started_at_ms);
        Self {
            id: node.id,
            // It answered.
            status: "ready",
            version: node.version,
            started_at: started.to_string(),
            workloads_running: info.workloads_running,
            capacity: info.capacity.as_ref().map(amount),
            reserved: info.reserved.as_ref().map(amount),
            used,
            data_directory: info.data_directory.clone(),
            runtime_directory: info.runtime_directory.clone(),
            state_height: info.state_height,
            pid: info.pid,
            vmm: Some(info.vmm.clone()).filter(|text| !text.is_empty()),
            vmm_reason: Some(info.vmm_reason.clone()).filter(|text| !text.is_empty()),
            started,
        }
    }

    fn of_capacity(&self, shown: impl Fn(&Amount) -> String) -> String {
        let part = |amount: Option<Amount>| amount.as_ref().map_or_else(|| "-".to_owned(), &shown);
        format!("{} / {}", part(self.reserved), part(self.capacity))
    }
}

/// The nodes, for people; with what is used where that was measured.
pub(super) fn table(nodes: &[NodeView]) -> Table {
    let heads = [
        "ID",
        "STATUS",
        "VERSION",
        "WORKLOADS",
        "CPU RESERVED",
        "MEM RESERVED",
        "CPU USED",
        "MEM USED",
        "UP",
    ];
    let is_measured = nodes.iter().any(|node| node.used.is_some());
    let wanted = |column: usize| is_measured || !matches!(column, 6 | 7);
    let columns: Vec<usize> = (0..heads.len()).filter(|column| wanted(*column)).collect();
    let mut table = Table::new(&columns.iter().map(|column| heads[*column]).collect::<Vec<_>>());
    for node in nodes {
        let used = node.used.unwrap_or_default();
        let cells = [
            node.id.get(..SHORT_LEN).unwrap_or(&node.id).to_owned(),
            node.status.to_owned(),
            node.version.clone(),
            node.workloads_running.to_string(),
            node.of_capacity(|amount| cpus(amount.cpu_millis)),
            node.of_capacity(|amount| format_size(amount.memory_bytes)),
            cpus(used.cpu_millis),
            format_size(used.memory_bytes),
            age::since(node.started),
        ];
        table.cells(columns.iter().map(|column| cells[*column].as_str()));
    }
    table
}

fn cpus(millis: u32) -> String {
    format!("{}.{}", millis / 1000, millis % 1000 / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> v1::NodeInfoResponse {
        v1::NodeInfoResponse {
            node: Some(v1::Node { id: "07".repeat(32), version: "1.2.3".into() }),
            capacity: Some(v1::Resources { cpu_millis: 2000, memory_bytes: 4 << 30 }),
            reserved: Some(v1::Resources { cpu_millis: 500, memory_bytes: 1 << 30 }),
            workloads_running: 2,
            ..Default::default()
        }
    }

    #[test]
    fn what_is_used_is_a_sum_and_shown_when_measured() {
        let one = v1::WorkloadStats { cpu_millis: 750, memory_bytes: 1 << 20, pids: 2, ..Default::default() };
        let used = Used::of(&v1::StatsResponse { ts_ms: 0, workloads: vec![one.clone(), one] });
        assert_eq!((used.cpu_millis, used.memory_bytes, used.pids), (1500, 2 << 20, 4));
        let measured = table(&[NodeView::new(&info(), Some(used))]).to_string();
        for part in ["CPU USED", "1.5", "2MiB", "0.5 / 2.0", "1GiB / 4GiB", "0707070707070707 "] {
            assert!(measured.contains(part), "{part} in {measured}");
        }
        let plain = table(&[NodeView::new(&info(), None)]).to_string();
        assert!(!plain.contains("USED") && plain.contains("MEM RESERVED"), "{plain}");
    }
}
