//! `/metrics`, `/healthz` and `/readyz`, for requests to hosts that are no workload's. Whether the node is well,
//! everybody may ask. What it counts is for this machine alone: it refuses `/metrics` to callers from elsewhere.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::{ConnectInfo, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use hypercore_dataplane::{LocalPages, ResponseBody};
use tower::ServiceExt as _;

use crate::node::Node;

/// The content type of OpenMetrics text, version 1.0.0.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The pages, for the ingress to serve.
pub(crate) fn pages(node: Arc<Node>) -> LocalPages {
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .with_state(node);
    Arc::new(move |caller: SocketAddr, mut request| {
        request.extensions_mut().insert(ConnectInfo(caller));
        let answer = routes.clone().oneshot(request);
        Some(Box::pin(async move {
            let response = answer.await.unwrap_or_else(|never| match never {});
            response.map(ResponseBody::local)
        }))
    })
}

async fn metrics(State(node): State<Arc<Node>>, ConnectInfo(caller): ConnectInfo<SocketAddr>) -> Response {
    if !caller.ip().to_canonical().is_loopback() {
        return (StatusCode::FORBIDDEN, "metrics are served to this machine alone\n").into_response();
    }
    match node.metrics.render(&node) {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// Ready means that the state answers; the process being up is `/healthz`.
async fn readyz(State(node): State<Arc<Node>>) -> Response {
    if node.ledger.is_open() {
        (StatusCode::OK, "ready\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the state is closed\n").into_response()
    }
}
