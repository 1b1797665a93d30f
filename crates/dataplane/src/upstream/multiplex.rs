//! Connections of HTTP/2 to backends: one for each, which its requests share. It refuses HTTP/2 with TLS: behind the
//! ingress there is the node's own network, or a tunnel that encrypts.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use hyper::{
    client::conn::http2::{Builder, SendRequest},
    rt::Executor as _,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{body::RequestBody, tasks::Tasks};

type Sender = SendRequest<RequestBody>;

/// The connections, each read by a task.
#[derive(Debug)]
pub(crate) struct Multiplexed {
    senders: Mutex<HashMap<SocketAddr, Sender>>,
    tasks: Tasks,
}

impl Multiplexed {
    pub(crate) fn new(tasks: Tasks) -> Self {
        Self { senders: Mutex::default(), tasks }
    }

    /// The connection to this backend, if there is one that still takes requests.
    pub(crate) fn get(&self, address: SocketAddr) -> Option<Sender> {
        let mut senders = self.lock();
        let sender = senders.get(&address)?;
        if sender.is_closed() {
            senders.remove(&address);
            return None;
        }
        Some(sender.clone())
    }

    /// Begins to speak HTTP/2 on a connection.
    pub(crate) async fn open<S>(&self, address: SocketAddr, stream: TokioIo<S>) -> hyper::Result<Sender>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = Builder::new(self.tasks.clone());
        let (sender, connection) =
            builder.timer(TokioTimer::new()).adaptive_window(true).handshake(stream).await?;
        self.tasks.execute(async move {
            // Whoever has a request under way is told; there is nobody else to tell.
            let _ = connection.await;
        });
        let mut senders = self.lock();
        senders.retain(|_, sender| !sender.is_closed());
        senders.insert(address, sender.clone());
        Ok(sender)
    }

    /// Ends all of them.
    pub(crate) fn close(&self) {
        self.tasks.abort();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Sender>> {
        self.senders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
