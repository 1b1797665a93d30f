//! A connection that stopped speaking HTTP: bytes both ways, until one side ends or nothing moves any more.
//! It refuses any upgrade but to WebSocket: `h2c` would carry requests past every check.

use std::{future::poll_fn, io, pin::pin, task::Poll, time::Duration};

use http::{Method, Version, header, request::Parts};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::{body::Drain, guard::Clock, upstream::Link};

/// Bytes that are on their way in one direction.
const BUFFER_BYTES: usize = 16 * 1024;

/// Both ends, once they have agreed.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(crate) client_end: OnUpgrade,
    pub(crate) backend_end: OnUpgrade,
    pub(crate) link: Link,
    pub(crate) drain: Drain,
    pub(crate) idle: Duration,
}

/// Whether a request asks for a WebSocket (RFC 6455 §4.1).
pub(super) fn is_asked_for(parts: &Parts) -> bool {
    let has_word = |name, word: &str| {
        let values = parts.headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(word))
    };
    parts.version == Version::HTTP_11
        && parts.method == Method::GET
        && parts.headers.contains_key(header::UPGRADE)
        && has_word(header::CONNECTION, "upgrade")
        && has_word(header::UPGRADE, "websocket")
}

impl Tunnel {
    /// Carries bytes until both directions have ended, nothing moved for too long, or the drain deadline has passed.
    pub(crate) async fn run(self) {
        let Self { client_end, backend_end, mut link, mut drain, idle } = self;
        let mut backend_end = pin!(backend_end);
        let backend = poll_fn(|cx| {
            link.drive(cx);
            backend_end.as_mut().poll(cx)
        });
        let (Ok(client), Ok(backend)) = (client_end.await, backend.await) else { return };
        let (client_reader, client_writer) = tokio::io::split(TokioIo::new(client));
        let (backend_reader, backend_writer) = tokio::io::split(TokioIo::new(backend));
        let moved = Moved::default();
        let mut upward = pin!(carry(client_reader, backend_writer, &moved));
        let mut downward = pin!(carry(backend_reader, client_writer, &moved));
        let mut clock = Clock::default();
        let (mut is_up_over, mut is_down_over) = (false, false);
        poll_fn(|cx| {
            is_up_over = is_up_over || upward.as_mut().poll(cx).is_ready();
            is_down_over = is_down_over || downward.as_mut().poll(cx).is_ready();
            if moved.take() {
                clock.restart();
            }
            let is_over =
                is_up_over && is_down_over || drain.poll(cx).is_ready() || clock.poll(cx, idle).is_ready();
            if is_over { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// Whether bytes have moved since it was last asked.
#[derive(Debug, Default)]
struct Moved(std::sync::atomic::AtomicBool);

impl Moved {
    fn note(&self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    fn take(&self) -> bool {
        self.0.swap(false, std::sync::atomic::Ordering::Relaxed)
    }
}

/// One direction, to its end; the end is passed on.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    moved: &Moved,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        moved.note();
        to.write_all(&buffer[..count]).await?;
        to.flush().await?;
        moved.note();
    }
}
