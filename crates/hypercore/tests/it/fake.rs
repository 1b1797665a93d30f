//! An agent that answers from a script, on a Unix socket in a scratch directory, in the test's own process.

mod images;
mod sessions;
mod snapshots;
mod tokens;
mod workloads;

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex},
};

use hypercore_api::{
    ApiError,
    v1::{
        self, cluster_service_server::ClusterServiceServer, image_service_server::ImageServiceServer,
        node_service_server::NodeServiceServer, snapshot_service_server::SnapshotServiceServer,
        token_service_server::TokenServiceServer,
    },
};
use tokio::{
    net::{TcpListener, UnixListener},
    runtime::Runtime,
    sync::watch,
};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::{
    Request, Response, Status,
    transport::{Server, server::Router},
};

use crate::program::{Ended, finish, hypercore};

pub(crate) use tokens::SECRET;

/// The id of whatever the fake runs.
pub(crate) const ID: &str = "1b4e28ba-2fa1-41d2-883f-0016d3cca427";

/// What the fake answers.
#[derive(Debug, Default)]
pub(crate) struct Script {
    /// Every call fails with this.
    pub(crate) refusal: Option<ApiError>,
    /// What `ps` and `inspect` find.
    pub(crate) workloads: Vec<v1::WorkloadState>,
    /// What `run` is told on the way to a running workload.
    pub(crate) progress: Vec<v1::ProgressEvent>,
    /// `run` is told nothing more after that, as if the pull took for ever.
    pub(crate) is_start_endless: bool,
    /// What exec and attach do.
    pub(crate) session: Session,
    /// What `logs` finds.
    pub(crate) logs: Vec<v1::LogEntry>,
    /// What `image ls` finds.
    pub(crate) images: Vec<v1::Image>,
    /// What `snapshots ls` finds.
    pub(crate) snapshots: Vec<v1::Snapshot>,
    /// What `token ls` finds.
    pub(crate) tokens: Vec<v1::Token>,
}

/// What the process in an exec or attach does.
#[derive(Debug, Clone, Default)]
pub(crate) enum Session {
    /// Writes both outputs and ends with this code.
    #[default]
    Speak,
    /// Writes back what it reads, tells of resizes, and ends with 7 when its input does.
    Echo,
    /// Says `ready`, reads nothing, and ends only by a signal.
    Sleep,
    /// Says `ready`, and ignores signals too.
    Ignore,
    /// Says `ready`, then the agent breaks.
    Break,
}

/// A running fake; it goes with this value.
#[derive(Debug)]
pub(crate) struct Fake {
    directory: tempfile::TempDir,
    address: SocketAddr,
    service: Service,
    // Dropped last, with everything that runs on it.
    _runtime: Runtime,
}

/// What the service implementations share.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    script: Arc<Script>,
    calls: Arc<Mutex<Vec<String>>>,
    signals: watch::Sender<i32>,
}

impl Fake {
    /// Starts it.
    pub(crate) fn start(script: Script) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let runtime = Runtime::new().unwrap();
        let service =
            Service { script: Arc::new(script), calls: Arc::default(), signals: watch::Sender::new(0) };
        let (unix, tcp) = runtime.block_on(async {
            let unix = UnixListener::bind(directory.path().join("api.sock")).unwrap();
            (unix, TcpListener::bind("127.0.0.1:0").await.unwrap())
        });
        let address = tcp.local_addr().unwrap();
        runtime.spawn(server(&service).serve_with_incoming(UnixListenerStream::new(unix)));
        runtime.spawn(server(&service).serve_with_incoming(TcpListenerStream::new(tcp)));
        Self { directory, address, service, _runtime: runtime }
    }

    /// The program, told where this agent is.
    pub(crate) fn hypercore(&self) -> Command {
        let mut command = hypercore();
        command.env("HYPERCORE_API", format!("unix:{}", self.socket().display()));
        command
    }

    /// Runs the program against this agent.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        finish(self.hypercore().args(arguments), b"")
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("api.sock")
    }

    /// Where else it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The calls so far, as text.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.service.calls.lock().unwrap().clone()
    }
}

fn server(service: &Service) -> Router {
    Server::builder()
        .add_service(ClusterServiceServer::new(service.clone()))
        .add_service(ImageServiceServer::new(service.clone()))
        .add_service(NodeServiceServer::new(service.clone()))
        .add_service(SnapshotServiceServer::new(service.clone()))
        .add_service(TokenServiceServer::new(service.clone()))
}

impl Service {
    /// Notes a call, and refuses it if the script says so.
    fn note(&self, call: impl Into<String>) -> Result<(), Status> {
        self.calls.lock().unwrap().push(call.into());
        self.script.refusal.clone().map_or(Ok(()), |error| Err(error.into()))
    }
}

#[tonic::async_trait]
impl v1::node_service_server::NodeService for Service {
    async fn info(
        &self,
        call: Request<v1::NodeInfoRequest>,
    ) -> Result<Response<v1::NodeInfoResponse>, Status> {
        let token = call.metadata().get("authorization").and_then(|value| value.to_str().ok());
        self.note(format!("info {}", token.unwrap_or("-")))?;
        let node = v1::Node { id: "07".repeat(32), version: "9.9.9".into() };
        Ok(Response::new(v1::NodeInfoResponse { node: Some(node), ..Default::default() }))
    }
}

/// A workload as the agent would describe it: `web`, made and started at these times.
pub(crate) fn workload(status: v1::WorkloadStatus, created_at_ms: u64) -> v1::WorkloadState {
    let request = v1::VmSpawnRequest {
        image_ref: "docker.io/library/web:1".into(),
        name: "web".into(),
        env: vec!["MODE=test".into()],
        labels: [("tier".to_owned(), "front".to_owned())].into(),
        ..Default::default()
    };
    v1::WorkloadState {
        id: ID.into(),
        source_request: Some(request),
        status: status.into(),
        node: "07".repeat(32),
        created_at_ms,
        started_at_ms: Some(created_at_ms + 20),
        ports: vec!["8080:80/tcp".into()],
        attempt: 1,
        ..Default::default()
    }
}

/// A step on the way to a running workload.
pub(crate) fn reached(state: v1::WorkloadState) -> v1::ProgressEvent {
    v1::ProgressEvent { event: Some(v1::progress_event::Event::State(state)) }
}
