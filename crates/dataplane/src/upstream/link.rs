//! One connection of HTTP/1.1 to a backend, and the place where unused ones wait.
//! It refuses to keep a connection on which something of the last exchange is still under way.

use std::{
    collections::HashMap,
    fmt,
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

use crate::body::RequestBody;

/// Most bytes of the head of an answer.
const ANSWER_HEAD_BYTES_MAX: usize = 64 * 1024;

type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;
type Idle = HashMap<SocketAddr, Vec<(Instant, Link)>>;

/// A connection. Dropping it closes it.
pub(crate) struct Link {
    sender: http1::SendRequest<RequestBody>,
    /// Reads and writes the connection; `None` when it has ended.
    driver: Option<Driver>,
    /// Where it goes when it is free again.
    home: Option<Home>,
}

#[derive(Debug, Clone)]
pub(crate) struct Home {
    pool: Weak<Shelf>,
    address: SocketAddr,
}

impl Link {
    /// Begins to speak HTTP/1.1 on a connection that will be kept.
    pub(crate) async fn open<S>(stream: S, home: Home) -> hyper::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = builder().handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, driver: Some(Box::pin(connection)), home: Some(home) })
    }

    /// Begins to speak HTTP/1.1 on a connection that may stop doing so.
    pub(crate) async fn open_for_upgrade<S>(stream: S) -> hyper::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = builder().handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, driver: Some(Box::pin(connection.with_upgrades())), home: None })
    }

    /// Sends a request and waits for the head of its answer.
    pub(crate) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        let Self { sender, driver, .. } = self;
        let mut answer = pin!(sender.try_send_request(request));
        poll_fn(|cx| {
            drive(driver, cx);
            answer.as_mut().poll(cx)
        })
        .await
    }

    /// Reads and writes as much as can be now.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) {
        drive(&mut self.driver, cx);
    }

    /// Whether the connection has come to its end.
    pub(crate) const fn has_ended(&self) -> bool {
        self.driver.is_none()
    }

    /// The exchange is over. Keeps the connection, if it can be used again.
    pub(crate) fn release(mut self) {
        let Some(home) = self.home.take() else { return };
        self.drive(&mut Context::from_waker(Waker::noop()));
        if self.has_ended() || !self.sender.is_ready() {
            return;
        }
        if let Some(pool) = home.pool.upgrade() {
            self.home = Some(home.clone());
            pool.put(home.address, self);
        }
    }

    /// Whether the backend still holds its end open, as far as is known here.
    fn is_usable(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        !self.has_ended() && self.sender.is_ready()
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("home", &self.home).finish_non_exhaustive()
    }
}

fn builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(ANSWER_HEAD_BYTES_MAX);
    builder
}

fn drive(driver: &mut Option<Driver>, cx: &mut Context<'_>) {
    // An error is told to whoever waits for an answer or a body; there is nobody else to tell.
    if let Some(running) = driver
        && let Poll::Ready(_) = running.as_mut().poll(cx)
    {
        *driver = None;
    }
}

/// Connections that nobody uses now.
#[derive(Debug)]
pub(crate) struct Pool(Arc<Shelf>);

#[derive(Debug)]
pub(crate) struct Shelf {
    idle: Mutex<Idle>,
    per_backend_max: usize,
    time_max: Duration,
}

impl Pool {
    pub(crate) fn new(per_backend_max: usize, time_max: Duration) -> Self {
        Self(Arc::new(Shelf { idle: Mutex::default(), per_backend_max, time_max }))
    }

    /// Where connections to this backend wait.
    pub(crate) fn home(&self, address: SocketAddr) -> Home {
        Home { pool: Arc::downgrade(&self.0), address }
    }

    /// The connection to this backend that was used last, if it is still good.
    pub(crate) fn take(&self, address: SocketAddr) -> Option<Link> {
        loop {
            let (since, mut link) = self.0.lock().get_mut(&address)?.pop()?;
            if since.elapsed() >= self.0.time_max {
                // The others have waited even longer.
                self.0.lock().remove(&address);
                return None;
            }
            if link.is_usable() {
                return Some(link);
            }
        }
    }
}

impl Shelf {
    fn put(&self, address: SocketAddr, link: Link) {
        let now = Instant::now();
        let mut idle = self.lock();
        if !idle.contains_key(&address) {
            // Backends come and go: where one is new, others may be gone for good.
            idle.retain(|_, links| links.last().is_some_and(|(since, _)| now - *since < self.time_max));
        }
        let links = idle.entry(address).or_default();
        if links.len() < self.per_backend_max {
            links.push((now, link));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
