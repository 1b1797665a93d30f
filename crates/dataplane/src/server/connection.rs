//! One client's connection, from the handshake to its last byte. It refuses to outlive the drain deadline: whoever
//! spawned it ends it then.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
};

use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::undelayed;
use crate::{
    config::IngressConfig,
    connector::Connector,
    guard::Guard,
    proxy::{Client, Proxy},
    tasks::Tasks,
    tls::Certificates,
};

/// What TLS needs: the settings of the handshake, and the certificates that it chooses from.
pub(super) type Handshake = (Arc<rustls::ServerConfig>, Certificates);

/// Serves a connection to its end.
pub(super) async fn serve<C: Connector>(
    proxy: Arc<Proxy<C>>,
    stream: TcpStream,
    mut client: Client,
    handshake: Option<Handshake>,
    draining: CancellationToken,
) {
    undelayed(&stream);
    let Some((config, certificates)) = handshake else {
        return speak(proxy, stream, client, false, draining).await;
    };
    let shaken = timeout(proxy.config.timeouts.head, TlsAcceptor::from(config).accept(stream)).await;
    let stream = match shaken {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            return tracing::debug!(client = %client.address, %error, "the TLS handshake failed");
        }
        Err(_) => return tracing::debug!(client = %client.address, "the TLS handshake took too long"),
    };
    let session = stream.get_ref().1;
    let is_http2 = session.alpn_protocol() == Some(b"h2");
    client.server_name = session.server_name().map(|name| (name.to_owned(), certificates));
    speak(proxy, stream, client, is_http2, draining).await;
}

async fn speak<C: Connector>(
    proxy: Arc<Proxy<C>>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    client: Client,
    is_http2: bool,
    draining: CancellationToken,
) {
    let activity = Arc::clone(&client.activity);
    let config = Arc::clone(&proxy.config);
    let (timeouts, limits) = (config.timeouts.clone(), &config.limits);
    let mut guard = Guard::new(stream, Arc::clone(&activity), timeouts, limits.head_bytes_max);
    let is_http2 = is_http2
        || match timeout(config.timeouts.head, guard.is_http2()).await {
            Ok(Ok(is_http2)) => is_http2,
            // Nobody is there, or somebody who says nothing.
            Ok(Err(_)) | Err(_) => return,
        };
    let client = Arc::new(client);
    let service = service_fn(move |request| {
        let (proxy, client) = (Arc::clone(&proxy), Arc::clone(&client));
        async move { Ok::<_, Infallible>(proxy.handle(&client, request).await) }
    });
    let stop = async {
        tokio::select! {
            () = draining.cancelled() => {}
            () = activity.worn_out.cancelled() => {}
        }
    };
    let ended = if is_http2 {
        let builder = http2_builder(&config);
        let connection = pin!(builder.serve_connection(TokioIo::new(guard), service));
        drive(connection, |connection| connection.graceful_shutdown(), stop).await
    } else {
        let mut builder = http1::Builder::new();
        // The guard has the deadlines: it knows a head from a pause.
        builder.header_read_timeout(None).max_headers(limits.headers_max).max_buf_size(limits.head_bytes_max);
        let connection = builder.serve_connection(TokioIo::new(guard), service).with_upgrades();
        drive(pin!(connection), |connection| connection.graceful_shutdown(), stop).await
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended before its time");
    }
    if let Some(tunnel) = activity.take_tunnel() {
        tunnel.run().await;
    }
}

fn http2_builder(config: &IngressConfig) -> http2::Builder<Tasks> {
    let mut builder = http2::Builder::new(Tasks::default());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(config.timeouts.keep_alive)
        .adaptive_window(true)
        .max_concurrent_streams(config.limits.streams_per_connection_max)
        .max_header_list_size(u32::try_from(config.limits.head_bytes_max).unwrap_or(u32::MAX));
    builder
}

/// Runs a connection to its end, and asks it once to come to it when `stop` completes.
async fn drive<F: Future>(
    mut connection: Pin<&mut F>,
    shut: impl Fn(Pin<&mut F>),
    stop: impl Future<Output = ()>,
) -> F::Output {
    let mut stop = pin!(stop);
    let mut is_stopping = false;
    poll_fn(|cx| {
        if !is_stopping && stop.as_mut().poll(cx).is_ready() {
            is_stopping = true;
            shut(connection.as_mut());
        }
        connection.as_mut().poll(cx)
    })
    .await
}
