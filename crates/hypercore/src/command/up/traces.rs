//! Spans as OpenTelemetry traces, sent to a collector over OTLP/HTTP in batches, from a thread of their own.
//! It refuses to hold anything up: what a collector doesn't take in time is dropped, which is said once.

use std::{
    error::Error,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response, ResponseExt as _};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{SdkTracerProvider, Tracer},
};
use tokio::runtime::Runtime;
use tracing::Subscriber;
use tracing_subscriber::{EnvFilter, Layer, registry::LookupSpan};

/// How long a collector may take to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// The path of OTLP/HTTP for traces (OpenTelemetry Protocol 1.9, "OTLP/HTTP Request").
const PATH: &str = "/v1/traces";
/// What is traced: the steps of our own work, however much is written to the journal.
const TRACED: &str = "error,hypercore=info";

/// Traces that are being sent.
pub(super) struct Traces {
    provider: SdkTracerProvider,
    tracer: Tracer,
}

/// Begins to send to the collector at this URL.
///
/// # Errors
/// When the URL is not one of HTTP, or there is no thread or socket to send from.
pub(super) fn begin(endpoint: &str) -> Result<Traces, Box<dyn Error + Send + Sync>> {
    let base = endpoint.trim_end_matches('/');
    let url = if base.ends_with(PATH) { base.to_owned() } else { format!("{base}{PATH}") };
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(format!("`{endpoint}` is neither an http:// nor an https:// address").into());
    }
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Client::new()?)
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(ANSWER_TIME_MAX)
        .with_endpoint(url)
        .build()?;
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let resource = Resource::builder_empty().with_service_name("hypercore").with_attribute(version).build();
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
    let tracer = provider.tracer("hypercore");
    Ok(Traces { provider, tracer })
}

impl Traces {
    /// What turns the program's spans into traces.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let layer = tracing_opentelemetry::layer().with_tracer(self.tracer.clone());
        layer.with_location(false).with_threads(false).with_filter(EnvFilter::new(TRACED))
    }

    /// Sends what is left, within the time a collector may take.
    pub(super) fn end(self) {
        if let Err(error) = self.provider.shutdown_with_timeout(ANSWER_TIME_MAX) {
            tracing::debug!(%error, "the last traces were not sent");
        }
    }
}

/// The node's one HTTP client and TLS stack, on a reactor of its own: it is called from a thread that has none.
#[derive(Debug)]
struct Client {
    runtime: Runtime,
    http: reqwest::Client,
    is_failing: AtomicBool,
}

impl Client {
    fn new() -> Result<Self, Box<dyn Error + Send + Sync>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let http = reqwest::Client::builder().timeout(ANSWER_TIME_MAX).no_proxy().build()?;
        Ok(Self { runtime, http, is_failing: AtomicBool::new(false) })
    }

    async fn send(http: reqwest::Client, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = http.execute(request.try_into()?).await?;
        let status = answer.status();
        let mut response = Response::new(answer.bytes().await?);
        *response.status_mut() = status;
        response.error_for_status()
    }

    /// Says once that it begins to fail, and once that it goes again.
    fn tell(&self, failure: Option<&HttpError>) {
        let was_failing = self.is_failing.swap(failure.is_some(), Ordering::Relaxed);
        match failure {
            Some(error) if !was_failing => {
                tracing::warn!(
                    error = hypercore_agent::chain(&**error),
                    "traces can't be sent and are dropped"
                );
            }
            None if was_failing => tracing::info!("traces are sent again"),
            _ => {}
        }
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let http = self.http.clone();
        // Called from the exporter's own thread, which may wait and has no reactor.
        let sent = self.runtime.block_on(Self::send(http, request));
        self.tell(sent.as_ref().err());
        sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_http_are_taken() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        assert!(begin("grpc://collector:4317").is_err());
        begin("http://127.0.0.1:1/").unwrap().end();
    }
}
