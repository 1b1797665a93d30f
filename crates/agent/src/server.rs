//! The gRPC API, on the node's Unix socket and where configured on TCP with TLS and tokens, with server reflection and
//! the standard health service.
//! Handlers read requests, submit intentions to the ledger and show what was observed; they refuse to do the work.

mod attach;
mod authorize;
mod cluster_service;
mod copy;
mod events;
mod exec;
mod fork;
mod image_service;
mod lifetime;
mod list;
mod logs;
mod network;
mod node_service;
mod output;
pub(crate) mod pause;
mod problem;
mod progress;
mod request;
mod restore;
mod snapshot;
mod snapshot_service;
mod spawn;
mod stats;
mod target;
mod token_service;
mod view;
mod volume_service;

use std::{error::Error, sync::Arc, time::Duration};

use hypercore_api::v1::{
    self, FILE_DESCRIPTOR_SET, cluster_service_server::ClusterServiceServer,
    image_service_server::ImageServiceServer, node_service_server::NodeServiceServer,
    snapshot_service_server::SnapshotServiceServer, token_service_server::TokenServiceServer,
    volume_service_server::VolumeServiceServer,
};
use hypercore_dataplane::tls::Certificates;
use hypercore_runtime::sandbox::TerminalSize;
use rustls::ServerConfig;
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, service::Routes, transport::Server};

use crate::{
    access::{Access, Caller, Stranger},
    certificates::TlsError,
    node::Node,
    supervisor::Supervisor,
};
use authorize::{AuthorizeLayer, Door};
pub(crate) use logs::log_text;
pub(crate) use problem::Problem;

/// Largest message a caller may send, in bytes.
const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most calls at a time on one connection from the network.
const STREAMS_MAX: u32 = 128;
/// How many bytes of one call may wait to be read.
const STREAM_WINDOW_BYTES: u32 = 128 * 1024;
/// How many bytes of all calls of a connection may wait to be read.
const CONNECTION_WINDOW_BYTES: u32 = 512 * 1024;
/// Largest head of a call, in bytes as HTTP/2 counts them (RFC 9113 §6.5.2).
const HEADER_BYTES_MAX: u32 = 16 * 1024;
/// How often a quiet connection is asked whether it is still there.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// How long it may take to answer that.
const KEEPALIVE_TIME_MAX: Duration = Duration::from_secs(20);

/// How often the files of a given certificate are looked at.
const CERTIFICATE_LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// How many answers of a stream may wait for a slow reader.
const STREAM_BACKLOG_MAX: usize = 16;

/// A caller's terminal size; beyond 65,535 counts as that.
fn terminal_size(size: v1::TerminalSize) -> TerminalSize {
    let clamp = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
    TerminalSize { rows: clamp(size.rows), columns: clamp(size.columns) }
}

/// What a handler has: the node, its tasks, and who calls. The services are made of one without a caller, and each
/// call gets its own by [`Handlers::open`].
#[derive(Debug, Clone)]
pub(crate) struct Handlers {
    node: Arc<Node>,
    supervisor: Supervisor,
    caller: Option<Caller>,
}

impl Handlers {
    const fn new(node: Arc<Node>, supervisor: Supervisor) -> Self {
        Self { node, supervisor, caller: None }
    }

    /// Opens a call: its handler, who knows the caller, and its message.
    fn open<T>(&self, call: Request<T>) -> Result<(Self, T), Problem> {
        let caller = call.extensions().get::<Caller>().cloned();
        let caller = caller.ok_or(Stranger::NoToken)?;
        Ok((Self { caller: Some(caller), ..self.clone() }, call.into_inner()))
    }

    /// Who calls. Nothing is done for nobody.
    fn caller(&self) -> Result<&Caller, Problem> {
        self.caller.as_ref().ok_or_else(|| Stranger::NoToken.into())
    }
}

/// Serves the API to the node's own root until it fails or is dropped.
///
/// # Errors
/// When the socket can no longer be served, or the generated descriptors are broken.
pub(crate) async fn serve(
    node: Arc<Node>,
    supervisor: Supervisor,
    listener: UnixListener,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    Server::builder()
        .layer(AuthorizeLayer::new(Door::Local))
        .add_routes(routes(Handlers::new(node, supervisor)).await?)
        .serve_with_incoming(UnixListenerStream::new(listener))
        .await?;
    Ok(())
}

/// The API for the network, about to be served.
#[derive(Debug)]
pub(crate) struct NetworkApi {
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    from_files: Certificates,
}

impl NetworkApi {
    /// Gets ready to serve on this listener.
    ///
    /// # Errors
    /// [`TlsError`] when there is no certificate to serve with.
    pub(crate) fn new(node: &Node, listener: TcpListener) -> Result<Self, TlsError> {
        let from_files = Certificates::new();
        let tls = node.tls.server_config(&from_files)?;
        Ok(Self { listener, tls, from_files })
    }

    /// Serves whoever comes with a token, until the node goes down.
    pub(crate) fn spawn(self, node: &Arc<Node>, supervisor: &Supervisor) {
        let Self { listener, tls, from_files } = self;
        if let Some(files) = node.tls.files() {
            let followed = files.clone().follow(from_files, CERTIFICATE_LOOK_INTERVAL);
            supervisor.spawn_once("server/grpc/certificate", followed);
        }
        if let Ok(address) = listener.local_addr() {
            let authority = node.tls.fingerprint().map(|fingerprint| fingerprint.to_string());
            tracing::info!(%address, authority, "the API is served with TLS to callers with tokens");
        }
        let served = serve_network(Arc::clone(node), supervisor.clone(), listener, tls);
        supervisor.spawn_critical("server/grpc/network", served);
    }
}

async fn serve_network(
    node: Arc<Node>,
    supervisor: Supervisor,
    listener: TcpListener,
    tls: Arc<ServerConfig>,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let access = Access::new(node.ledger.clone());
    let (ready, connections) = network::queue();
    let server = Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIME_MAX))
        .layer(AuthorizeLayer::new(Door::Network(access)))
        .add_routes(routes(Handlers::new(node, supervisor)).await?)
        .serve_with_incoming(ReceiverStream::new(connections));
    tokio::select! {
        served = server => Ok(served?),
        () = network::accept(listener, tls, network::Limits::default(), ready) => Ok(()),
    }
}

/// Every service.
async fn routes(handlers: Handlers) -> Result<Routes, Box<dyn Error + Send + Sync>> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<ClusterServiceServer<Handlers>>().await;
    health.set_serving::<ImageServiceServer<Handlers>>().await;
    health.set_serving::<NodeServiceServer<Handlers>>().await;
    health.set_serving::<SnapshotServiceServer<Handlers>>().await;
    health.set_serving::<TokenServiceServer<Handlers>>().await;
    health.set_serving::<VolumeServiceServer<Handlers>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    Ok(Routes::new(health_service)
        .add_service(reflection)
        .add_service(ClusterServiceServer::new(handlers.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(ImageServiceServer::new(handlers.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(NodeServiceServer::new(handlers.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(
            SnapshotServiceServer::new(handlers.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
        )
        .add_service(TokenServiceServer::new(handlers.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(VolumeServiceServer::new(handlers).max_decoding_message_size(MESSAGE_BYTES_MAX)))
}
