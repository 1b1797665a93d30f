//! The door to the network: TLS connections, bounded in number, of callers who have to show a token soon.
//! It refuses plaintext, slow handshakes, and strangers who stay.
//!
//! ```text
//!   accept --> room? --> TLS handshake, 10 s --> Connection --> HTTP/2 --> authorize
//!              1,024 in all; 64 strangers per address; a stranger's connection breaks after 30 s
//! ```

mod connection;
mod strangers;

#[cfg(test)]
mod tests;

use std::{io, sync::Arc, time::Duration};

use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

pub(super) use connection::{Connection, Visitor};
use strangers::{Stranger, Strangers};

/// How long to wait when the system has no descriptor left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections whose handshake is done and that wait to be served.
const READY_MAX: usize = 16;

/// How much callers may take, and how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Most connections at a time. Those that come after wait to be accepted.
    pub(super) connections_max: usize,
    /// How long a TLS handshake may take.
    pub(super) handshake_time_max: Duration,
    /// How long a connection lasts on which nobody shows a token: enough to ask for the node's health.
    pub(super) stranger_time_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            handshake_time_max: Duration::from_secs(10),
            stranger_time_max: Duration::from_secs(30),
        }
    }
}

/// Accepts connections until it is dropped. Those that became TLS go to `ready`.
pub(super) async fn accept(listener: TcpListener, tls: Arc<ServerConfig>, limits: Limits, ready: Ready) {
    let room = Arc::new(Semaphore::new(limits.connections_max));
    let (strangers, acceptor) = (Strangers::default(), TlsAcceptor::from(tls));
    let mut handshakes = JoinSet::new();
    loop {
        // Handshakes that are over leave nothing behind.
        while handshakes.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Of one connection, or of a process that has no descriptors left: the listener itself is well.
                tracing::debug!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(stranger) = strangers.admit(peer.ip()) else {
            tracing::debug!(%peer, "too many connections without a token");
            continue;
        };
        let (acceptor, ready) = (acceptor.clone(), ready.clone());
        handshakes.spawn(async move {
            match tokio::time::timeout(limits.handshake_time_max, shake_hands(acceptor, stream)).await {
                Ok(Ok(stream)) => {
                    let patience = limits.stranger_time_max;
                    let connection = Connection::new(stream, peer, patience, stranger, permit);
                    // A server that is gone has no use for it.
                    drop(ready.send(Ok(connection)).await);
                }
                Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS connection came about"),
                Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
            }
        });
    }
}

/// Where connections go to be served.
pub(super) type Ready = mpsc::Sender<io::Result<Connection>>;

/// The way from [`accept`] to the server.
pub(super) fn queue() -> (Ready, mpsc::Receiver<io::Result<Connection>>) {
    mpsc::channel(READY_MAX)
}

async fn shake_hands(acceptor: TlsAcceptor, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    stream.set_nodelay(true)?;
    acceptor.accept(stream).await
}
