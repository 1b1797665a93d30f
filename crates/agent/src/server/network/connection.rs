//! One TLS connection, which breaks when nobody shows a token on it in time.

use std::{
    future::Future as _,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::Sleep,
};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::Stranger;

/// Who is at the other end of a connection, as each of its requests knows it.
#[derive(Debug, Clone)]
pub(in crate::server) struct Visitor {
    address: SocketAddr,
    standing: Arc<Standing>,
}

#[derive(Debug)]
struct Standing {
    is_known: AtomicBool,
    /// The place among strangers, until it is given back.
    stranger: Mutex<Option<Stranger>>,
}

impl Visitor {
    /// Where the connection comes from.
    pub(in crate::server) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Somebody showed a good token: the connection may last.
    pub(in crate::server) fn is_known_now(&self) {
        if !self.standing.is_known.swap(true, Ordering::Relaxed) {
            *self.standing.stranger.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}

/// A connection that is served. Its place is given back when it is dropped.
#[derive(Debug)]
pub(in crate::server) struct Connection {
    stream: TlsStream<TcpStream>,
    visitor: Visitor,
    deadline: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    pub(super) fn new(
        stream: TlsStream<TcpStream>,
        address: SocketAddr,
        patience: Duration,
        stranger: Stranger,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let standing = Standing { is_known: AtomicBool::new(false), stranger: Mutex::new(Some(stranger)) };
        Self {
            stream,
            visitor: Visitor { address, standing: Arc::new(standing) },
            deadline: Box::pin(tokio::time::sleep(patience)),
            _permit: permit,
        }
    }

    /// Whether whoever is there has stayed too long without a token. Polled with every read, and a connection that is
    /// served is always being read.
    fn poll_patience(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let is_known = self.visitor.standing.is_known.load(Ordering::Relaxed);
        if !is_known && self.deadline.as_mut().poll(context).is_ready() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}

impl Connected for Connection {
    type ConnectInfo = Visitor;

    fn connect_info(&self) -> Visitor {
        self.visitor.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_patience(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
