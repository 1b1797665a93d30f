//! Listening: accepts connections, speaks TLS where asked, and comes to an orderly end.
//! It refuses to bind sockets itself: they are given to it, perhaps by an earlier run of the agent.

mod connection;

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    acme::Challenges,
    body::ResponseBody,
    config::IngressConfig,
    connector::Connector,
    proxy::{Activity, Client, Proxy},
    request_id::RequestIds,
    routes::Routes,
    tasks::Tasks,
    tls::{self, Certificates},
    upstream::Upstream,
};

/// How long to wait when the system has no room for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Answers requests whose host is no workload's; `None` leaves them to the ingress, which has no such page.
pub type LocalPages =
    Arc<dyn Fn(Visit, Request<Incoming>) -> Option<BoxFuture<'static, Response<ResponseBody>>> + Send + Sync>;

/// How a request for a local page came here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visit {
    /// Where the connection comes from.
    pub address: SocketAddr,
    /// Whether it is TLS, so that nobody on the way reads along.
    pub is_encrypted: bool,
}

/// What a listener's connections speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Plain,
    /// Every request for a workload is sent to the same URL with https.
    Redirecting {
        https_port: u16,
    },
    Tls,
}

/// One listening socket and what is served on it.
pub struct Entrance {
    listener: TcpListener,
    scheme: Scheme,
    certificates: Option<Certificates>,
    local: Option<LocalPages>,
}

impl Entrance {
    /// HTTP without TLS.
    #[must_use]
    pub const fn plain(listener: TcpListener) -> Self {
        Self { listener, scheme: Scheme::Plain, certificates: None, local: None }
    }

    /// HTTP that sends everybody to HTTPS at this port.
    #[must_use]
    pub const fn redirecting(listener: TcpListener, https_port: u16) -> Self {
        Self { listener, scheme: Scheme::Redirecting { https_port }, certificates: None, local: None }
    }

    /// HTTPS with these certificates.
    #[must_use]
    pub const fn tls(listener: TcpListener, certificates: Certificates) -> Self {
        Self { listener, scheme: Scheme::Tls, certificates: Some(certificates), local: None }
    }

    /// Also serves these pages.
    #[must_use]
    pub fn with_local(mut self, pages: LocalPages) -> Self {
        self.local = Some(pages);
        self
    }
}

impl fmt::Debug for Entrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entrance")
            .field("listener", &self.listener)
            .field("scheme", &self.scheme)
            .finish_non_exhaustive()
    }
}

/// The ingress: serves any number of entrances by one table of routes.
#[derive(Debug)]
pub struct Ingress<C> {
    config: Arc<IngressConfig>,
    routes: Routes,
    connector: Arc<C>,
    challenges: Challenges,
    ids: Arc<RequestIds>,
}

impl<C> Clone for Ingress<C> {
    fn clone(&self) -> Self {
        let Self { config, routes, connector, challenges, ids } = self;
        Self {
            config: Arc::clone(config),
            routes: routes.clone(),
            connector: Arc::clone(connector),
            challenges: challenges.clone(),
            ids: Arc::clone(ids),
        }
    }
}

impl<C: Connector> Ingress<C> {
    /// An ingress by these routes.
    #[must_use]
    pub fn new(config: IngressConfig, routes: Routes, connector: C) -> Self {
        Self {
            config: Arc::new(config),
            routes,
            connector: Arc::new(connector),
            challenges: Challenges::new(),
            ids: Arc::new(RequestIds::new()),
        }
    }

    /// Also answers an authority's challenges, on every entrance.
    #[must_use]
    pub fn with_challenges(mut self, challenges: Challenges) -> Self {
        self.challenges = challenges;
        self
    }

    /// Serves one entrance until `draining` is cancelled; then no connection is accepted any more, and what is under
    /// way has until the drain deadline.
    ///
    /// # Errors
    /// When TLS can't be set up. A connection that fails is its own affair.
    pub async fn serve(self, entrance: Entrance, draining: CancellationToken) -> Result<(), rustls::Error> {
        let Entrance { listener, scheme, certificates, local } = entrance;
        let acceptor = match &certificates {
            Some(certificates) => Some(tls::server_config(certificates.clone())?),
            None => None,
        };
        let tasks = Tasks::default();
        let upstream = Upstream::new(Arc::clone(&self.connector), &self.config, tasks);
        let Self { config, routes, challenges, ids, .. } = self;
        let proxy = Arc::new(Proxy { config: Arc::clone(&config), routes, upstream, local, challenges, ids });
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = draining.cancelled() => break,
                Some(ended) = connections.join_next(), if !connections.is_empty() => report(ended),
                accepted = listener.accept(), if connections.len() < config.limits.connections_max => match accepted {
                    Ok((stream, address)) => {
                        let client = client(address, scheme, &config);
                        let handshake = acceptor.clone().zip(certificates.clone());
                        let (proxy, draining) = (Arc::clone(&proxy), draining.clone());
                        connections.spawn(connection::serve(proxy, stream, client, handshake, draining));
                    }
                    Err(error) => endure(&error).await,
                },
            }
        }
        drop(listener);
        let all = async {
            while let Some(ended) = connections.join_next().await {
                report(ended)
            }
        };
        if tokio::time::timeout(config.timeouts.drain, all).await.is_err() {
            tracing::info!(connections = connections.len(), "closing connections that did not end in time");
        }
        connections.shutdown().await;
        Ok(())
    }
}

fn client(address: SocketAddr, scheme: Scheme, config: &IngressConfig) -> Client {
    let text = address.ip().to_canonical().to_string();
    Client {
        address,
        address_text: HeaderValue::try_from(text).expect("an address is visible ASCII"),
        scheme,
        server_name: None,
        activity: Activity::new(config.limits.requests_per_connection_max),
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task panicked");
    }
}

/// A connection that broke before it was accepted is nothing; a lack of descriptors or memory passes.
async fn endure(error: &io::Error) {
    if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        return;
    }
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// Heads and small bodies must not wait for the acknowledgement of what went before.
fn undelayed(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
}
