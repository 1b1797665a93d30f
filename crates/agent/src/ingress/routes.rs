//! Keeps the ingress's routes as the ledger and the board have it. It takes no input: whenever either has changed, it
//! reads everything again.

use std::{net::SocketAddr, sync::Arc};

use hypercore_cluster::state::{Desired, WorkloadRecord};
use hypercore_dataplane::{Backend, Route, RouteState, Routes};
use hypercore_model::WorkloadStatus;

use super::port;
use crate::{board::Observed, node::Node};

/// Runs until the ledger closes.
pub(super) async fn follow(node: Arc<Node>, routes: Routes) {
    let (mut wanted, mut observed) = (node.ledger.changes(), node.board.changes());
    loop {
        wanted.mark_unchanged();
        observed.mark_unchanged();
        routes.replace(all(&node));
        let changed = tokio::select! {
            changed = wanted.changed() => changed,
            changed = observed.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

fn all(node: &Node) -> Vec<Route> {
    let records: Vec<Arc<WorkloadRecord>> = node
        .ledger
        .read(|state| state.workloads().filter(|record| record.node == node.identity).cloned().collect());
    records.iter().map(|record| route(node, record)).collect()
}

fn route(node: &Node, record: &WorkloadRecord) -> Route {
    let observed = node.board.get(record.id).unwrap_or_else(Observed::pending);
    let exposed = || {
        let image = node
            .images
            .store
            .get(&record.spec.image)
            .filter(|image| Some(image.digest) == observed.image_digest);
        let config = image.and_then(|image| image.config.config().clone());
        config.and_then(|config| config.exposed_ports().clone()).unwrap_or_default()
    };
    Route {
        workload: record.id,
        name: record.spec.name.clone(),
        state: state(&record.desired, &observed, || port::of(&record.spec, exposed)),
    }
}

fn state(
    desired: &Desired,
    observed: &Observed,
    port: impl FnOnce() -> Option<std::num::NonZeroU16>,
) -> RouteState {
    let status = match (observed.status, desired) {
        // What is about to be told to stop takes no new requests.
        (WorkloadStatus::Running, Desired::Stopped { .. }) => WorkloadStatus::Stopping,
        (status, _) => status,
    };
    let Some(address) = observed.address.filter(|_| status == WorkloadStatus::Running) else {
        return RouteState::NotRunning(status);
    };
    match port() {
        Some(port) => RouteState::Live(vec![Backend { address: SocketAddr::from((address, port.get())) }]),
        None => RouteState::NoPort,
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, num::NonZeroU16};

    use super::*;

    #[test]
    fn only_what_runs_and_shall_run_takes_requests() {
        let port = || NonZeroU16::new(80);
        let mut observed = Observed::pending();
        assert_eq!(
            state(&Desired::Running, &observed, port),
            RouteState::NotRunning(WorkloadStatus::Pending)
        );
        observed.status = WorkloadStatus::Running;
        observed.address = Some(Ipv4Addr::new(10, 0, 0, 2));
        let backend = Backend { address: SocketAddr::from(([10, 0, 0, 2], 80)) };
        assert_eq!(state(&Desired::Running, &observed, port), RouteState::Live(vec![backend]));
        assert_eq!(state(&Desired::Running, &observed, || None), RouteState::NoPort);
        let stopped = Desired::Stopped { signal: None, grace_ms: 0 };
        assert_eq!(state(&stopped, &observed, port), RouteState::NotRunning(WorkloadStatus::Stopping));
        observed.status = WorkloadStatus::Paused;
        assert_eq!(state(&Desired::Running, &observed, port), RouteState::NotRunning(WorkloadStatus::Paused));
    }
}
