//! The gRPC API on the node's Unix socket, with server reflection and the standard health service.
//! Handlers read requests, submit intentions to the ledger and show what was observed; they refuse to do the work.

mod attach;
mod cluster_service;
mod events;
mod exec;
mod image_service;
mod lifetime;
mod logs;
mod node_service;
mod output;
pub(crate) mod pause;
mod problem;
mod progress;
mod request;
mod stats;
mod target;
mod view;
mod volume_service;

use std::{error::Error, sync::Arc};

use hypercore_api::v1::{
    self, FILE_DESCRIPTOR_SET, cluster_service_server::ClusterServiceServer,
    image_service_server::ImageServiceServer, node_service_server::NodeServiceServer,
    volume_service_server::VolumeServiceServer,
};
use hypercore_runtime::sandbox::TerminalSize;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use crate::{node::Node, supervisor::Supervisor};

/// Largest message a caller may send, in bytes.
const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How many answers of a stream may wait for a slow reader.
const STREAM_BACKLOG_MAX: usize = 16;

/// A caller's terminal size; beyond 65,535 counts as that.
fn terminal_size(size: v1::TerminalSize) -> TerminalSize {
    let clamp = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
    TerminalSize { rows: clamp(size.rows), columns: clamp(size.columns) }
}

/// What the handlers share.
#[derive(Debug, Clone)]
pub(crate) struct Handlers {
    node: Arc<Node>,
    supervisor: Supervisor,
}

/// Serves the API until it fails or is dropped.
///
/// # Errors
/// When the socket can no longer be served, or the generated descriptors are broken.
pub(crate) async fn serve(
    node: Arc<Node>,
    supervisor: Supervisor,
    listener: UnixListener,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let handlers = Handlers { node, supervisor };
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<ClusterServiceServer<Handlers>>().await;
    health.set_serving::<ImageServiceServer<Handlers>>().await;
    health.set_serving::<NodeServiceServer<Handlers>>().await;
    health.set_serving::<VolumeServiceServer<Handlers>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    Server::builder()
        .add_service(health_service)
        .add_service(reflection)
        .add_service(ClusterServiceServer::new(handlers.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(ImageServiceServer::new(handlers.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(NodeServiceServer::new(handlers.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(VolumeServiceServer::new(handlers).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .serve_with_incoming(UnixListenerStream::new(listener))
        .await?;
    Ok(())
}
