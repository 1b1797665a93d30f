//! The typed client of the gRPC API: one method per call, every failure an [`ApiError`].
//! It refuses to retry and to print; whoever calls it decides.

mod endpoint;
mod images;
mod sessions;
mod volumes;
mod workloads;

use std::{fmt, io, time::Duration};

use tonic::{
    Request, Status, Streaming,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

pub use endpoint::{Endpoint, EndpointError};
pub use sessions::Session;

use crate::{
    error::{ApiError, ErrorKind},
    v1,
};

/// How long connecting may take. A local socket answers at once; this bounds a host that drops packets.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

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
}

impl From<ConnectError> for ApiError {
    fn from(error: ConnectError) -> Self {
        let message = error.to_string();
        match error {
            ConnectError::NoAgent { .. } => Self::new(ErrorKind::Unavailable, "agent_unreachable", message)
                .with_hint("start one with `hypercore up`, or say where it is with --api"),
            ConnectError::Denied { .. } => Self::new(ErrorKind::Refused, "agent_denied", message)
                .with_hint("only root may use the local socket: try again with `sudo`"),
            ConnectError::Token(_) => Self::new(ErrorKind::Usage, "token_malformed", message),
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
    /// Connects to the agent at `endpoint`; `token` goes with every call as `authorization: Bearer`.
    ///
    /// # Errors
    /// [`ConnectError`]: nothing answers within 5 seconds, access is denied, or the token is malformed.
    pub async fn connect(endpoint: &Endpoint, token: Option<&str>) -> Result<Self, ConnectError> {
        let credentials = Credentials::of_token(token).map_err(ConnectError::Token)?;
        let connected = match endpoint.to_tonic() {
            Ok(target) => target.connect_timeout(CONNECT_TIMEOUT).connect().await,
            Err(source) => Err(source),
        };
        let channel = connected.map_err(|source| {
            let endpoint = endpoint.clone();
            match is_permission_denied(&source) {
                true => ConnectError::Denied { endpoint, source },
                false => ConnectError::NoAgent { endpoint, source },
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
