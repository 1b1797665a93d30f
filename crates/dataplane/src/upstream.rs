//! The way to the backends: kept connections of HTTP/1.1, one shared connection of HTTP/2 per backend that is asked
//! for it.
//!
//! A connection of HTTP/1.1 has no task of its own: whoever waits for its answer reads it, so that an exchange needs
//! no handing over between tasks. It refuses to repeat a request of which the backend may have seen something.

mod link;
mod multiplex;

use std::{io, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use crate::{body::RequestBody, config::IngressConfig, connector::Connector, routes::Backend, tasks::Tasks};
pub(crate) use link::Link;
use link::Pool;
use multiplex::Multiplexed;

/// Why a backend gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExchangeError {
    /// No connection could be made. The request is unharmed.
    #[error("connecting failed")]
    Connect(#[source] io::Error, Box<Request<RequestBody>>),
    /// No connection came about in time. The request is unharmed.
    #[error("connecting took too long")]
    ConnectLate(Box<Request<RequestBody>>),
    /// What came back is no HTTP, or nothing came back.
    #[error("no proper answer came")]
    Answer(#[source] hyper::Error),
    /// The head of the answer took too long.
    #[error("the answer took too long")]
    AnswerLate,
}

/// An answer and the connection its body comes on.
pub(crate) type Answer = (Response<Incoming>, Option<Link>);

/// Connections to all backends, for one thread of the ingress.
#[derive(Debug)]
pub(crate) struct Upstream<C: Connector> {
    connector: Arc<C>,
    pool: Pool,
    multiplexed: Multiplexed,
    connect_time_max: Duration,
    response_time_max: Duration,
}

impl<C: Connector> Upstream<C> {
    pub(crate) fn new(connector: Arc<C>, config: &IngressConfig, tasks: Tasks) -> Self {
        Self {
            connector,
            pool: Pool::new(config.limits.idle_per_backend_max, config.timeouts.upstream_idle),
            multiplexed: Multiplexed::new(tasks),
            connect_time_max: config.timeouts.connect,
            response_time_max: config.timeouts.response,
        }
    }

    /// One request and its answer, over HTTP/1.1.
    pub(crate) async fn exchange(
        &self,
        backend: &Backend,
        mut request: Request<RequestBody>,
    ) -> Result<Answer, ExchangeError> {
        while let Some(mut link) = self.pool.take(backend.address) {
            match self.in_time(link.send(request)).await? {
                Ok(response) => return Ok((response, Some(link))),
                // The backend closed it, and this request was not begun on it.
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(ExchangeError::Answer(error.into_error())),
                },
            }
        }
        let (stream, request) = self.connect(backend, request).await?;
        let opened = Link::open(stream, self.pool.home(backend.address)).await;
        let mut link = opened.map_err(ExchangeError::Answer)?;
        match self.in_time(link.send(request)).await? {
            Ok(response) => Ok((response, Some(link))),
            Err(error) => Err(ExchangeError::Answer(error.into_error())),
        }
    }

    /// One request that may turn its connection into a tunnel: on a connection of its own, which is not kept.
    pub(crate) async fn upgrade(
        &self,
        backend: &Backend,
        request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Link), ExchangeError> {
        let (stream, request) = self.connect(backend, request).await?;
        let mut link = Link::open_for_upgrade(stream).await.map_err(ExchangeError::Answer)?;
        match self.in_time(link.send(request)).await? {
            Ok(response) => Ok((response, link)),
            Err(error) => Err(ExchangeError::Answer(error.into_error())),
        }
    }

    /// One request and its answer, over HTTP/2 without TLS (RFC 9113 §3.3).
    pub(crate) async fn exchange_http2(
        &self,
        backend: &Backend,
        mut request: Request<RequestBody>,
    ) -> Result<Answer, ExchangeError> {
        let mut sender = match self.multiplexed.get(backend.address) {
            Some(sender) => sender,
            None => {
                let (stream, unharmed) = self.connect(backend, request).await?;
                request = unharmed;
                let opened = self.multiplexed.open(backend.address, TokioIo::new(stream)).await;
                opened.map_err(ExchangeError::Answer)?
            }
        };
        let response = self.in_time(sender.send_request(request)).await?;
        Ok((response.map_err(ExchangeError::Answer)?, None))
    }

    async fn connect(
        &self,
        backend: &Backend,
        request: Request<RequestBody>,
    ) -> Result<(C::Stream, Request<RequestBody>), ExchangeError> {
        match timeout(self.connect_time_max, self.connector.connect(backend)).await {
            Ok(Ok(stream)) => Ok((stream, request)),
            Ok(Err(error)) => Err(ExchangeError::Connect(error, Box::new(request))),
            Err(_) => Err(ExchangeError::ConnectLate(Box::new(request))),
        }
    }

    async fn in_time<T>(&self, answer: impl Future<Output = T>) -> Result<T, ExchangeError> {
        timeout(self.response_time_max, answer).await.map_err(|_| ExchangeError::AnswerLate)
    }
}

impl<C: Connector> Drop for Upstream<C> {
    fn drop(&mut self) {
        self.multiplexed.close();
    }
}
