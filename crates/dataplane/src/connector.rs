//! How backends are reached. The agent supplies it: what is near is dialled, what is on another node goes through a
//! tunnel. It refuses to choose a backend; that is the router's work.

use std::{fmt, future::Future, io};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use crate::routes::Backend;

/// Makes connections to backends.
pub trait Connector: fmt::Debug + Send + Sync + 'static {
    /// One connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Connects to a backend. The caller sets the deadline.
    fn connect(&self, backend: &Backend) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// Dials backends of this machine by TCP.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpConnector;

impl Connector for TcpConnector {
    type Stream = TcpStream;

    async fn connect(&self, backend: &Backend) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(backend.address).await?;
        // Heads and small bodies must not wait for the acknowledgement of what went before.
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}
