//! The node's front doors for HTTP: which sockets there are, who answers on them, and by what certificates. The
//! proxying itself is `hypercore-dataplane`'s.
//!
//! ```text
//!   --http-bind-addr   workloads by host name; metrics, health for every other host
//!   [ingress] http     workloads by host name, or everybody on to https
//!   [ingress] https    workloads by host name, with TLS
//! ```
//!
//! It refuses to know what runs: [`routes`] reads that from the ledger and the board.

mod development;
mod port;
mod routes;
mod url;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use hypercore_dataplane::{
    Entrance, HostName, Ingress, IngressConfig, LocalPages, Routes, TcpConnector,
    acme::{Acme, AcmeConfig, Challenges},
    tls::{
        Certificates,
        files::{CertificateError, CertificateFiles},
    },
};
use tokio::net::TcpListener;

pub(crate) use url::Urls;

use crate::{
    config::AgentConfig,
    http,
    listeners::{ListenError, Listeners},
    node::Node,
    supervisor::{RestartPolicy, Supervisor},
};

/// How often files with a certificate are looked at.
const CERTIFICATE_LOOK: Duration = Duration::from_secs(5);

/// What the ingress is told.
#[derive(Debug, Clone)]
pub struct IngressSettings {
    /// Workloads are found at `<name or id>.<base domain>`.
    pub base_domain: HostName,
    /// Where HTTP is served to everybody.
    pub http: Option<SocketAddr>,
    /// Where HTTPS is served to everybody.
    pub https: Option<SocketAddr>,
    /// Where the certificates for HTTPS come from.
    pub tls: IngressTls,
    /// What requests under way get when their workload goes.
    pub drain: Duration,
    /// Whether each request is logged.
    pub access_log: bool,
}

/// Where certificates come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IngressTls {
    /// Nowhere: there is no HTTPS.
    Off,
    /// From these files, read again when they change.
    Files {
        /// The chain in PEM.
        certificates: PathBuf,
        /// The key in PEM.
        key: PathBuf,
    },
    /// From the node's own authority, which browsers don't know.
    Development,
    /// From a public authority, by ACME; it must reach the ingress on port 80.
    Acme {
        /// The authority's directory.
        directory_url: String,
        /// Whom it may write to.
        email: Option<String>,
    },
}

/// The ingress can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum IngressError {
    /// A socket can't be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// There is no certificate to begin with.
    #[error("the certificate of the ingress can't be used")]
    Certificate(#[source] CertificateError),
}

/// The sockets and certificates, ready to be served.
#[derive(Debug)]
pub(crate) struct Doors {
    own: Option<TcpListener>,
    http: Option<TcpListener>,
    https: Option<TcpListener>,
    https_port: Option<u16>,
    certificates: Certificates,
    files: Option<CertificateFiles>,
}

impl Doors {
    /// Takes the sockets and reads the certificates.
    pub(crate) fn open(config: &AgentConfig, listeners: &Listeners) -> Result<Self, IngressError> {
        let settings = &config.ingress;
        let listen = |name, address: Option<SocketAddr>| {
            address.map(|address| listeners.tcp(name, address)).transpose()
        };
        let certificates = Certificates::new();
        let files = match &settings.tls {
            IngressTls::Off | IngressTls::Development | IngressTls::Acme { .. } => None,
            IngressTls::Files { certificates, key } => {
                Some(CertificateFiles { certificates: certificates.clone(), key: key.clone() })
            }
        };
        if let Some(files) = &files {
            certificates.set_default(files.load().map_err(IngressError::Certificate)?);
        }
        Ok(Self {
            own: listen("http", config.http_listen)?,
            http: listen("ingress-http", settings.http)?,
            https: listen("ingress-https", settings.https)?,
            https_port: settings.https.map(|address| address.port()),
            certificates,
            files,
        })
    }
}

/// Serves the doors, and keeps their routes and certificates true.
pub(crate) fn spawn(node: &Arc<Node>, supervisor: &Supervisor, doors: Doors, settings: &IngressSettings) {
    let routes = Routes::new();
    let (followed, table) = (Arc::clone(node), routes.clone());
    supervisor.spawn("ingress/routes", RestartPolicy::Backoff, move || {
        routes::follow(Arc::clone(&followed), table.clone())
    });
    let mut config = IngressConfig::new(settings.base_domain.clone());
    config.timeouts.drain = settings.drain;
    config.access_log = settings.access_log;
    let challenges = Challenges::new();
    let ingress = Ingress::new(config, routes.clone(), TcpConnector).with_challenges(challenges.clone());
    let Doors { own, http, https, https_port, certificates, files } = doors;
    let pages = http::pages(Arc::clone(node), supervisor.clone());
    let open = |name: &'static str, entrance: Option<Entrance>| {
        if let Some(entrance) = entrance {
            let ingress = ingress.clone();
            supervisor.spawn_draining(name, move |draining| ingress.serve(entrance, draining));
        }
    };
    open("ingress/own", own.map(|listener| Entrance::plain(listener).with_local(LocalPages::clone(&pages))));
    open(
        "ingress/http",
        http.map(|listener| match https_port {
            Some(port) => Entrance::redirecting(listener, port),
            None => Entrance::plain(listener),
        }),
    );
    let shown = certificates.clone();
    open("ingress/https", https.map(|listener| Entrance::tls(listener, shown).with_local(pages)));
    follow_certificates(node, supervisor, settings, &certificates, (routes, challenges));
    if let Some(files) = files {
        supervisor.spawn("ingress/certificates", RestartPolicy::Backoff, move || {
            files.clone().follow(certificates.clone(), CERTIFICATE_LOOK)
        });
    }
}

/// Keeps certificates true that are made and not read.
fn follow_certificates(
    node: &Arc<Node>,
    supervisor: &Supervisor,
    settings: &IngressSettings,
    certificates: &Certificates,
    (routes, challenges): (Routes, Challenges),
) {
    let (domain, certificates) = (settings.base_domain.clone(), certificates.clone());
    match &settings.tls {
        IngressTls::Off | IngressTls::Files { .. } => {}
        IngressTls::Development => {
            let node = Arc::clone(node);
            supervisor.spawn("ingress/certificates", RestartPolicy::Backoff, move || {
                let authority = Arc::clone(node.tls.authority());
                development::follow(authority, domain.clone(), routes.clone(), certificates.clone())
            });
        }
        IngressTls::Acme { directory_url, email } => {
            let store = node.directory.data().join("acme");
            let config = AcmeConfig::new(directory_url.clone(), email.clone(), store);
            supervisor.spawn("ingress/certificates", RestartPolicy::Backoff, move || {
                let certificates = certificates.clone();
                Acme::new(config.clone(), domain.clone(), routes.clone(), certificates, challenges.clone())
                    .follow()
            });
        }
    }
}
