//! The typed client of the gRPC API: one method per call, every failure an [`ApiError`].
//! It refuses to retry and to print; whoever calls it decides.

mod endpoint;
mod images;
pub mod pin;
mod sessions;
mod snapshots;
mod tls;
mod tokens;
mod volumes;
mod workloads;

use std::{fmt, io, path::Path, time::Duration};

use hypercore_trust::{ApiToken, token::ApiTokenError};
use tonic::{
    Request, Status, Streaming,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

pub use endpoint::{Endpoint, EndpointError};
pub use sessions::Session;
pub use tls::TrustError;

use crate::{
    error::{ApiError, ErrorKind},
    v1,
};

/// How long connecting may take. A local socket answers at once; this bounds a host that drops packets.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a quiet connection is asked whether the agent is still there, while a call waits.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// How long it may take to answer that.
const KEEPALIVE_TIME_MAX: Duration = Duration::from_secs(20);

/// Why no connection to an agent could be had.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nothing listens there.
    #[error("no agent answers at {endpoint}")]
    NoAgent {
        /// Where it was looked for.
        endpoint: Endpoint,
        /// What the system said.
        #[source]
        source: tonic::transport::Error,
    },
    /// The socket exists, and this user may not use it.
    #[error("this user may not talk to the agent at {endpoint}")]
    Denied {
        /// Where the socket is.
        endpoint: Endpoint,
        /// What the system said.
        #[source]
        source: tonic::transport::Error,
    },
    /// The token can't travel in a header.
    #[error("the API token has characters that no token has")]
    Token(#[source] tonic::metadata::errors::InvalidMetadataValue),
    /// The token is not one.
    #[error(transparent)]
    Malformed(#[from] ApiTokenError),
    /// The token would be readable on its way.
    #[error("the API token would travel in the open to {endpoint}")]
    Open {
        /// Where it would go.
        endpoint: Endpoint,
    },
    /// It can't be told which server to believe.
    #[error("{endpoint} can't be trusted")]
    Trust {
        /// Where the server is.
        endpoint: Endpoint,
        /// Why not.
        #[source]
        source: TrustError,
    },
    /// The server is another one than was to be expected.
    #[error("the server at {endpoint} is not the one that was meant: its certificate is not believed")]
    Impostor {
        /// Where it was looked for.
        endpoint: Endpoint,
        /// What is wrong with its certificate.
        #[source]
        source: tonic::transport::Error,
    },
}

impl From<ConnectError> for ApiError {
    fn from(error: ConnectError) -> Self {
        let message = error.to_string();
        match error {
            ConnectError::NoAgent { .. } => Self::new(ErrorKind::Unavailable, "agent_unreachable", message)
                .with_hint("start one with `hypercore up`, or say where it is with --api"),
            ConnectError::Denied { .. } => Self::new(ErrorKind::Refused, "agent_denied", message)
                .with_hint("only root may use the local socket: try again with `sudo`"),
            ConnectError::Token(_) | ConnectError::Malformed(_) => {
                Self::new(ErrorKind::Usage, "token_malformed", message)
                    .with_hint("set HYPERCORE_TOKEN to the whole line that `hypercore token create` printed")
            }
            ConnectError::Open { .. } => Self::new(ErrorKind::Refused, "token_in_the_open", message)
                .with_hint("write https:// in --api"),
            ConnectError::Trust { source, .. } => Self::new(
                ErrorKind::Usage,
                "server_not_known",
                format!("{message}: {source}"),
            )
            .with_hint(
                "give the token that was made there, or --api-ca FILE with the authority of its certificate",
            ),
            ConnectError::Impostor { source, .. } => {
                let why = certificate_error(&source).map(|why| format!(" ({why})")).unwrap_or_default();
                Self::new(ErrorKind::Refused, "server_not_believed", format!("{message}{why}")).with_hint(
                    "the token is for another node, or something stands between: make a new token on the node",
                )
            }
        }
    }
}

/// A connection to one agent. Clones share it.
#[derive(Clone)]
pub struct Client {
    channel: InterceptedService<Channel, Credentials>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    /// Connects to the agent at `endpoint`, and shows it who calls.
    ///
    /// # Errors
    /// [`ConnectError`]: nothing answers within 5 seconds, access is denied, the server is not to be believed, or the
    /// token is malformed or would travel in the open.
    pub async fn connect(endpoint: &Endpoint, proof: Proof<'_>) -> Result<Self, ConnectError> {
        if proof.token.is_some() && endpoint.is_open() {
            return Err(ConnectError::Open { endpoint: endpoint.clone() });
        }
        let credentials = Credentials::of_token(proof.token).map_err(ConnectError::Token)?;
        let connected = match endpoint {
            Endpoint::Https(authority) => connect_tls(endpoint, authority, proof).await?,
            Endpoint::Unix(_) | Endpoint::Http(_) => connect_plain(endpoint).await,
        };
        let channel = connected.map_err(|source| {
            let endpoint = endpoint.clone();
            if certificate_error(&source).is_some() {
                ConnectError::Impostor { endpoint, source }
            } else if is_permission_denied(&source) {
                ConnectError::Denied { endpoint, source }
            } else {
                ConnectError::NoAgent { endpoint, source }
            }
        })?;
        Ok(Self { channel: InterceptedService::new(channel, credentials) })
    }

    /// Who the agent is and how it does.
    ///
    /// # Errors
    /// What the agent answered, or that the connection broke; the same for every method here.
    pub async fn node_info(&self) -> Result<v1::NodeInfoResponse, ApiError> {
        let mut service = v1::node_service_client::NodeServiceClient::new(self.channel.clone());
        Ok(service.info(v1::NodeInfoRequest {}).await?.into_inner())
    }
}

/// What a client has to show, and what it wants to be shown.
#[derive(Clone, Copy, Default)]
pub struct Proof<'a> {
    /// Goes with every call as `authorization: Bearer`. Over TLS it also says which server to believe.
    pub token: Option<&'a str>,
    /// A file of certificates in PEM, from one of which the server must have its own; it stands over the token's word.
    pub authorities: Option<&'a Path>,
}

impl fmt::Debug for Proof<'_> {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proof").field("authorities", &self.authorities).finish_non_exhaustive()
    }
}

type Connected = Result<Channel, tonic::transport::Error>;

async fn connect_plain(endpoint: &Endpoint) -> Connected {
    endpoint.to_tonic()?.connect_timeout(CONNECT_TIMEOUT).connect().await
}

async fn connect_tls(
    endpoint: &Endpoint,
    authority: &str,
    proof: Proof<'_>,
) -> Result<Connected, ConnectError> {
    let token: Option<ApiToken> = proof.token.map(str::parse).transpose()?;
    let target = tls::Target::new(authority, token.as_ref(), proof.authorities)
        .map_err(|source| ConnectError::Trust { endpoint: endpoint.clone(), source })?;
    let connector = tower::service_fn(move |_| target.clone().connect());
    let connect = async {
        // Plain to tonic, which has no TLS of its own to make here: the connector's connections are secured already.
        let channel = Endpoint::Http(authority.to_owned()).to_tonic()?.connect_timeout(CONNECT_TIMEOUT);
        let channel =
            channel.http2_keep_alive_interval(KEEPALIVE_INTERVAL).keep_alive_timeout(KEEPALIVE_TIME_MAX);
        channel.connect_with_connector(connector).await
    };
    Ok(connect.await)
}

/// Messages that keep coming from the agent.
#[derive(Debug)]
pub struct Incoming<T> {
    stream: Streaming<T>,
}

impl<T> Incoming<T> {
    const fn new(stream: Streaming<T>) -> Self {
        Self { stream }
    }

    /// The next message; `None` when the agent has ended the stream well. Safe to drop between messages.
    ///
    /// # Errors
    /// How the agent ended the stream otherwise, or that the connection broke.
    pub async fn next(&mut self) -> Result<Option<T>, ApiError> {
        Ok(self.stream.message().await?)
    }
}

/// Adds the token to each call.
#[derive(Clone)]
struct Credentials {
    authorization: Option<MetadataValue<Ascii>>,
}

impl Credentials {
    fn of_token(token: Option<&str>) -> Result<Self, tonic::metadata::errors::InvalidMetadataValue> {
        let authorization = token.map(|token| MetadataValue::try_from(format!("Bearer {token}")));
        let mut authorization = authorization.transpose()?;
        if let Some(value) = &mut authorization {
            value.set_sensitive(true);
        }
        Ok(Self { authorization })
    }
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.authorization {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

fn is_permission_denied(error: &(dyn std::error::Error + 'static)) -> bool {
    let is_denied = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    error.downcast_ref::<io::Error>().is_some_and(is_denied)
        || error.source().is_some_and(is_permission_denied)
}

/// Why the server's certificate was not believed, if that is why there is no connection.
fn certificate_error<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a rustls::CertificateError> {
    // An I/O error holds what TLS said without calling it its source.
    let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let tls = error.downcast_ref::<rustls::Error>().or_else(|| held?.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(why)) => Some(why),
        Some(_) => None,
        None => error.source().and_then(certificate_error),
    }
}
