//! An ingress with its backends, and clients that write raw bytes. Everything ends with the value that owns it.

use std::{convert::Infallible, future::Future, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use hypercore_dataplane::{
    Backend, Entrance, Ingress, IngressConfig, LocalPages, Route, RouteState, Routes, TcpConnector,
    tls::Certificates,
};
use hypercore_model::WorkloadId;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// Longest wait for anything, on a machine that does much else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// An ingress on a port of its own.
pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) routes: Routes,
    pub(crate) draining: CancellationToken,
    pub(crate) ingress: JoinSet<()>,
}

/// Settings as everywhere, for the domain `test`.
pub(crate) fn config() -> IngressConfig {
    IngressConfig::new("test".parse().unwrap())
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(config()).await
    }

    pub(crate) async fn with(config: IngressConfig) -> Self {
        Self::enter(config, Entrance::plain).await
    }

    pub(crate) async fn with_tls(config: IngressConfig, certificates: Certificates) -> Self {
        Self::enter(config, |listener| Entrance::tls(listener, certificates)).await
    }

    pub(crate) async fn with_local(pages: LocalPages) -> Self {
        Self::enter(config(), |listener| Entrance::plain(listener).with_local(pages)).await
    }

    pub(crate) async fn enter(config: IngressConfig, entrance: impl FnOnce(TcpListener) -> Entrance) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (routes, draining) = (Routes::new(), CancellationToken::new());
        let serving =
            Ingress::new(config, routes.clone(), TcpConnector).serve(entrance(listener), draining.clone());
        let mut ingress = JoinSet::new();
        ingress.spawn(async move { serving.await.unwrap() });
        Self { address, routes, draining, ingress }
    }

    /// Routes `<name>.test` to this address.
    pub(crate) fn route(&self, name: &str, address: SocketAddr) {
        self.routes.insert(route(name, RouteState::Live(vec![Backend { address }])));
    }

    /// A connection that writes bytes as they are.
    pub(crate) async fn raw(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends these bytes and reads until the ingress closes the connection.
    pub(crate) async fn send(&self, bytes: &str) -> String {
        send(self.address, bytes).await
    }

    /// One request by a connection of its own, answered as text.
    pub(crate) async fn get(&self, host: &str, path: &str) -> String {
        get(self.address, host, path).await
    }
}

/// One request by a connection of its own, answered as text.
pub(crate) async fn get(address: SocketAddr, host: &str, path: &str) -> String {
    send(address, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await
}

async fn send(address: SocketAddr, bytes: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    read_all(&mut stream).await
}

/// The route of a workload whose id follows from its name.
pub(crate) fn route(name: &str, state: RouteState) -> Route {
    Route { workload: id(name), name: Some(name.parse().unwrap()), state }
}

pub(crate) fn id(name: &str) -> WorkloadId {
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(name.bytes().cycle()).for_each(|(byte, letter)| *byte = letter);
    WorkloadId::from_entropy(bytes)
}

/// Everything up to the end of the connection. One that is broken off counts as ended.
pub(crate) async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the connection stayed open").ok();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads until `part` has come.
pub(crate) async fn read_until(stream: &mut (impl AsyncRead + Unpin), part: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.contains(part) {
        let read = timeout(PATIENCE, stream.read(&mut buffer)).await;
        let count = read.unwrap_or_else(|_| panic!("no {part:?} in {text:?}")).unwrap();
        assert!(count > 0, "the connection ended without {part:?}: {text:?}");
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    text
}

/// A server of HTTP/1.1 that answers by a function; its tasks end with it.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start<F, R>(answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> R + Send + Sync + 'static,
        R: Future<Output = Response<Body>> + Send + 'static,
    {
        let answer = Arc::new(answer);
        Self::raw(move |stream| {
            let answer = Arc::clone(&answer);
            async move {
                let service = service_fn(move |request| {
                    let response = answer(request);
                    async move { Ok::<_, Infallible>(response.await) }
                });
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades()
                    .await;
            }
        })
        .await
    }

    /// A server that does with each connection what it wants.
    pub(crate) async fn raw<F, R>(serve: F) -> Self
    where
        F: Fn(TcpStream) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream));
            }
        });
        Self { address, _tasks: tasks }
    }

    /// Says what it was asked: request line, headers and body as text.
    pub(crate) async fn echo() -> Self {
        Self::start(|request: Request<Incoming>| async move {
            let (parts, body) = request.into_parts();
            let mut text = format!("{} {} {:?}\n", parts.method, parts.uri, parts.version);
            for (name, value) in &parts.headers {
                text.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
            }
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            text.push_str(&format!("\n{}", String::from_utf8_lossy(&body)));
            Response::new(full(text))
        })
        .await
    }

    /// Always the same.
    pub(crate) async fn saying(text: &'static str) -> Self {
        Self::start(move |_| async move { Response::new(full(text)) }).await
    }
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed_unsync()
}
