//! One event per answered request, when its last byte has gone: target `hypercore::access`.
//! It refuses to log headers, bodies and query strings, which may hold secrets.

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use hypercore_model::WorkloadId;

use crate::{body::BodyError, request_id::RequestId};

/// What is told of a request; told when it is dropped.
#[derive(Debug)]
pub(crate) struct Access {
    begun: Instant,
    pub(crate) id: RequestId,
    pub(crate) client: std::net::IpAddr,
    pub(crate) method: Method,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) status: StatusCode,
    pub(crate) workload: Option<WorkloadId>,
    /// From sending the request on to the head of the backend's answer.
    pub(crate) upstream: Option<Duration>,
    bytes: u64,
    cut: Option<String>,
}

impl Access {
    pub(crate) fn new(id: RequestId, client: std::net::IpAddr, request: &http::request::Parts) -> Self {
        let host = request.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
        Self {
            begun: Instant::now(),
            id,
            client,
            method: request.method.clone(),
            host: host.or_else(|| request.uri.host()).unwrap_or_default().to_owned(),
            path: request.uri.path().to_owned(),
            status: StatusCode::OK,
            workload: None,
            upstream: None,
            bytes: 0,
            cut: None,
        }
    }

    pub(crate) const fn count(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    pub(crate) fn note_cut(&mut self, error: &BodyError) {
        self.cut = Some(error.to_string());
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        tracing::info!(
            target: "hypercore::access",
            request = %self.id,
            client = %self.client,
            method = %self.method,
            host = self.host,
            path = self.path,
            status = self.status.as_u16(),
            bytes = self.bytes,
            duration_us = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX),
            upstream_us = self.upstream.map(|took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX)),
            workload = self.workload.map(tracing::field::display),
            cut = self.cut,
        );
    }
}
