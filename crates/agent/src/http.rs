//! `/metrics`, `/logs`, `/healthz` and `/readyz`, for requests to hosts that are no workload's. Whether the node is
//! well, everybody may ask. What it counts, this machine: it refuses `/metrics` to callers from elsewhere without a
//! token, and `/logs` to everybody without one. It refuses tokens that crossed the network in the open.

mod logs;
mod refusal;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Extension, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use hypercore_dataplane::{LocalPages, ResponseBody, Visit};
use tower::ServiceExt as _;

use self::refusal::Refusal;
use crate::{
    access::{Access, Caller},
    node::Node,
    supervisor::Supervisor,
};

/// The content type of OpenMetrics text, version 1.0.0.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Where the pages are; every other path is the ingress's.
const PATHS: [&str; 4] = ["/metrics", "/logs", "/healthz", "/readyz"];

/// What the pages are made of.
#[derive(Debug)]
struct Pages {
    node: Arc<Node>,
    supervisor: Supervisor,
    access: Access,
}

impl Pages {
    /// Who shows these headers, or what they are told instead.
    fn caller(&self, visit: Visit, headers: &HeaderMap) -> Result<Caller, Refusal> {
        let shown = headers.get(header::AUTHORIZATION).map(|shown| shown.as_bytes());
        if shown.is_some() && !visit.is_encrypted && !is_near(visit) {
            return Err(Refusal::InTheOpen);
        }
        self.access.authorize(shown).map_err(Refusal::Stranger)
    }
}

/// Whether the connection comes from this machine.
fn is_near(visit: Visit) -> bool {
    visit.address.ip().to_canonical().is_loopback()
}

/// The pages, for the ingress to serve.
pub(crate) fn pages(node: Arc<Node>, supervisor: Supervisor) -> LocalPages {
    let access = Access::new(node.ledger.clone());
    let [metrics_path, logs_path, healthz, readyz_path] = PATHS;
    let routes = Router::new()
        .route(metrics_path, get(metrics))
        .route(logs_path, get(logs::logs))
        .route(healthz, get(async || "ok\n"))
        .route(readyz_path, get(readyz))
        .with_state(Arc::new(Pages { node, supervisor, access }));
    Arc::new(move |visit, mut request| {
        if !PATHS.contains(&request.uri().path()) {
            return None;
        }
        request.extensions_mut().insert(visit);
        let answer = routes.clone().oneshot(request);
        Some(Box::pin(async move {
            let response = answer.await.unwrap_or_else(|never| match never {});
            response.map(ResponseBody::local)
        }))
    })
}

async fn metrics(
    State(pages): State<Arc<Pages>>,
    Extension(visit): Extension<Visit>,
    headers: HeaderMap,
) -> Response {
    if !is_near(visit)
        && let Err(refusal) = pages.caller(visit, &headers).and_then(|caller| refusal::may_count(&caller))
    {
        return refusal.into_response();
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
