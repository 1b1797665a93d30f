//! `NodeService`: who the agent is and how it does.

use hypercore_api::v1::{self, node_service_server::NodeService};
use hypercore_cluster::state::Resources;
use tonic::{Request, Response, Status};

use super::Handlers;

#[tonic::async_trait]
impl NodeService for Handlers {
    async fn info(&self, _: Request<v1::NodeInfoRequest>) -> Result<Response<v1::NodeInfoResponse>, Status> {
        let node = &self.node;
        let (state_height, state_root) = node.ledger.read(|state| (state.height(), state.root()));
        let (capacity, reserved) = node.ledger.read(|state| {
            let capacity = state.node(&node.identity).and_then(|record| record.capacity);
            (capacity, state.reserved(&node.identity))
        });
        let (vmm, vmm_reason) = node.machines.described();
        Ok(Response::new(v1::NodeInfoResponse {
            node: Some(self.this_node()),
            data_directory: node.directory.data().display().to_string(),
            runtime_directory: node.runtime_directory.display().to_string(),
            state_height,
            state_root: state_root.as_bytes().to_vec(),
            workloads_running: u32::try_from(node.board.running_count()).unwrap_or(u32::MAX),
            started_at_ms: node.started_at.unix_ms(),
            pid: std::process::id(),
            capacity: capacity.map(resources),
            reserved: Some(resources(reserved)),
            vmm,
            vmm_reason,
        }))
    }
}

impl Handlers {
    /// This node as the API shows it.
    pub(super) fn this_node(&self) -> v1::Node {
        v1::Node { id: self.node.identity.to_string(), version: env!("CARGO_PKG_VERSION").to_owned() }
    }
}

/// Amounts as the API shows them: more than it can say counts as the most it can.
fn resources(amount: Resources) -> v1::Resources {
    let cpu_millis = u32::try_from(amount.cpu_millis).unwrap_or(u32::MAX);
    v1::Resources { cpu_millis, memory_bytes: amount.memory_bytes }
}
