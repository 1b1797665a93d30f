//! `/metrics`, `/logs`, `/healthz` and `/readyz`, for requests to hosts that are no workload's. Whether the node is
//! well, everybody may ask. What it counts, this machine: it refuses `/metrics` to callers from elsewhere without a
//! token, and `/logs` to everybody without one.

mod logs;

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::{ConnectInfo, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use hypercore_dataplane::{LocalPages, ResponseBody};
use tower::ServiceExt as _;

use crate::{
    access::{Access, Caller, Stranger},
    node::Node,
    supervisor::Supervisor,
};

/// The content type of OpenMetrics text, version 1.0.0.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the pages are made of.
#[derive(Debug)]
struct Pages {
    node: Arc<Node>,
    supervisor: Supervisor,
    access: Access,
}

impl Pages {
    /// Who shows these headers.
    fn caller(&self, headers: &HeaderMap) -> Result<Caller, Stranger> {
        self.access.authorize(headers.get(header::AUTHORIZATION).map(|shown| shown.as_bytes()))
    }
}

/// The pages, for the ingress to serve.
pub(crate) fn pages(node: Arc<Node>, supervisor: Supervisor) -> LocalPages {
    let access = Access::new(node.ledger.clone());
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .route("/logs", get(logs::logs))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .with_state(Arc::new(Pages { node, supervisor, access }));
    Arc::new(move |caller: SocketAddr, mut request| {
        request.extensions_mut().insert(ConnectInfo(caller));
        let answer = routes.clone().oneshot(request);
        Some(Box::pin(async move {
            let response = answer.await.unwrap_or_else(|never| match never {});
            response.map(ResponseBody::local)
        }))
    })
}

async fn metrics(
    State(pages): State<Arc<Pages>>,
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    let is_near = caller.ip().to_canonical().is_loopback();
    if !is_near && let Err(refusal) = logs::may_count(pages.caller(&headers)) {
        return refusal;
    }
    match pages.node.metrics.render(&pages.node) {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// Ready means that the state answers; the process being up is `/healthz`.
async fn readyz(State(pages): State<Arc<Pages>>) -> Response {
    if pages.node.ledger.is_open() {
        (StatusCode::OK, "ready\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the state is closed\n").into_response()
    }
}
