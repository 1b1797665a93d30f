//! A client's connection as the HTTP parser sees it: only messages with strict framing come through, and only in time.
//!
//! ```text
//!   client --> [ framing | deadlines ] --> hyper
//! ```
//!
//! A head that is refused is replaced by bytes that the parser answers with 400, so that the refusal has a status. It
//! refuses to hold more than one line; longer ones go through for the parser to refuse with 431 or 414.

mod clock;
mod framing;

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

use crate::{config::Timeouts, proxy::Activity};
pub(crate) use clock::Clock;
use framing::Framing;

/// What an HTTP/2 client says first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// No method begins so, and no header name.
const POISON: &[u8] = b"\0\r\n\r\n";
/// How much of a body of known length is read at once, in bytes.
const BODY_READ_BYTES: usize = 64 * 1024;
/// How much is read from a connection at once while lines are looked at, in bytes.
const READ_BYTES: usize = 8 * 1024;

/// What the bytes of a connection are.
#[derive(Debug)]
enum Mode {
    /// HTTP/1: followed message by message.
    Http1(Framing),
    /// HTTP/2, or whatever an upgraded connection speaks.
    Opaque,
    /// Something was refused; nothing more is read.
    Refused,
}

/// A connection that is watched.
#[derive(Debug)]
pub(crate) struct Guard<I> {
    io: I,
    mode: Mode,
    /// What was read and not handed on. The first `clean` bytes may be.
    held: BytesMut,
    clean: usize,
    line_bytes_max: usize,
    activity: Arc<Activity>,
    timeouts: Timeouts,
    read_clock: Clock,
    write_clock: Clock,
}

impl<I: AsyncRead + AsyncWrite + Unpin> Guard<I> {
    pub(crate) fn new(io: I, activity: Arc<Activity>, timeouts: Timeouts, line_bytes_max: usize) -> Self {
        Self {
            io,
            mode: Mode::Opaque,
            held: BytesMut::new(),
            clean: 0,
            line_bytes_max,
            activity,
            timeouts,
            read_clock: Clock::default(),
            write_clock: Clock::default(),
        }
    }

    /// Reads until it is clear whether the client speaks HTTP/2, and goes on accordingly.
    ///
    /// # Errors
    /// When the connection breaks or ends first.
    pub(crate) async fn is_http2(&mut self) -> io::Result<bool> {
        loop {
            let seen = self.held.len().min(PREFACE.len());
            if self.held[..seen] != PREFACE[..seen] {
                self.follow_http1();
                return Ok(false);
            }
            if seen == PREFACE.len() {
                self.clean = self.held.len();
                return Ok(true);
            }
            self.held.reserve(READ_BYTES);
            if self.io.read_buf(&mut self.held).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// From here on the connection speaks HTTP/1.
    pub(crate) fn follow_http1(&mut self) {
        self.mode = Mode::Http1(Framing::new());
        self.scan(0);
    }

    fn scan(&mut self, searched: usize) {
        let Mode::Http1(framing) = &mut self.mode else { return };
        match framing.scan(&self.held, searched) {
            Ok(clean) => {
                self.clean = clean;
                if self.held.len() - clean > self.line_bytes_max {
                    self.clean = self.held.len();
                }
            }
            Err(violation) => {
                tracing::debug!(%violation, "refusing a request");
                self.held = BytesMut::from(POISON);
                self.clean = POISON.len();
                self.mode = Mode::Refused;
            }
        }
    }

    /// Bytes that may go from the connection to the parser without being looked at.
    fn unseen(&mut self) -> u64 {
        if self.activity.is_upgraded() {
            self.mode = Mode::Opaque;
        }
        match &self.mode {
            Mode::Opaque => u64::MAX,
            Mode::Http1(framing) => framing.unseen(),
            Mode::Refused => 0,
        }
    }

    fn hand_on(&mut self, out: &mut ReadBuf<'_>) {
        let count = self.clean.min(out.remaining());
        out.put_slice(&self.held[..count]);
        self.held.advance(count);
        self.clean -= count;
    }

    /// Nothing came: has it taken too long?
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let limit = match &self.mode {
            // Whoever copies an upgraded connection has an eye on it.
            Mode::Opaque if self.activity.is_upgraded() => return Poll::Pending,
            Mode::Http1(framing) if framing.is_in_head() && !self.is_at_rest() => self.timeouts.head,
            Mode::Http1(framing) if !framing.is_in_head() => self.timeouts.body_idle,
            _ => self.timeouts.keep_alive,
        };
        let is_at_rest = limit == self.timeouts.keep_alive && self.is_at_rest();
        if is_at_rest && self.activity.is_busy() {
            // The client waits for us, not we for the client.
            self.read_clock.restart();
        }
        ready!(self.read_clock.poll(cx, limit));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn is_at_rest(&self) -> bool {
        match &self.mode {
            Mode::Http1(framing) => framing.is_between_messages() && self.held.is_empty(),
            Mode::Opaque => true,
            Mode::Refused => false,
        }
    }

    /// Reads straight into the parser's memory.
    fn poll_unseen(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
        most: u64,
    ) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        let read = if most == u64::MAX {
            Pin::new(&mut self.io).poll_read(cx, out)
        } else {
            let room = usize::try_from(most).unwrap_or(usize::MAX).min(out.remaining()).min(BODY_READ_BYTES);
            let mut part = ReadBuf::new(out.initialize_unfilled_to(room));
            let read = Pin::new(&mut self.io).poll_read(cx, &mut part);
            let count = part.filled().len();
            out.advance(count);
            read
        };
        let Poll::Ready(read) = read else { return self.poll_late(cx) };
        self.read_clock.restart();
        if let Mode::Http1(framing) = &mut self.mode {
            framing.pass(out.filled().len() - before);
        }
        Poll::Ready(read)
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let was_at_rest = self.is_at_rest();
        self.held.reserve(READ_BYTES);
        let searched = self.held.len();
        let read = std::pin::pin!(self.io.read_buf(&mut self.held)).poll(cx);
        let Poll::Ready(count) = read else {
            ready!(self.poll_late(cx))?;
            return Poll::Pending;
        };
        let count = count?;
        let is_in_head = matches!(&self.mode, Mode::Http1(framing) if framing.is_in_head());
        // The time for a head runs from its first byte on: a byte now and then doesn't prolong it.
        if was_at_rest || !is_in_head {
            self.read_clock.restart();
        }
        self.scan(searched);
        Poll::Ready(Ok(count))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guard<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.clean > 0 {
                this.hand_on(out);
                return Poll::Ready(Ok(()));
            }
            let unseen = this.unseen();
            if matches!(this.mode, Mode::Opaque) && !this.held.is_empty() {
                this.clean = this.held.len();
                continue;
            }
            if unseen > 0 && this.held.is_empty() {
                return this.poll_unseen(cx, out, unseen);
            }
            if matches!(this.mode, Mode::Refused) || ready!(this.poll_fill(cx))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> Guard<I> {
    /// A client that takes nothing for too long is given up.
    fn poll_written<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_clock.restart();
            return written;
        }
        if self.activity.is_upgraded() {
            return Poll::Pending;
        }
        ready!(self.write_clock.poll(cx, self.timeouts.body_idle));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guard<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(cx, bytes);
        this.poll_written(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, parts);
        this.poll_written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.io).poll_flush(cx);
        this.poll_written(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = Pin::new(&mut this.io).poll_shutdown(cx);
        this.poll_written(cx, shut)
    }
}
