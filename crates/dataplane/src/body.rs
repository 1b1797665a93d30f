//! Bodies on their way through: of a request to a backend, and of an answer to a client.
//! They refuse to collect: one frame at a time, when the other side asks for it.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;

use crate::{access::Access, guard::Clock, proxy::Busy, upstream::Link};

/// What ends a body before its time.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// Nothing moved for too long, or the drain deadline has passed.
#[derive(Debug, thiserror::Error)]
#[error("the body was cut: {0}")]
struct Cut(&'static str);

/// A request's body on its way to a backend. How long it may pause is watched where it comes in.
#[derive(Debug)]
pub(crate) enum RequestBody {
    None,
    Stream(Incoming),
}

impl From<Incoming> for RequestBody {
    fn from(body: Incoming) -> Self {
        if body.is_end_stream() { Self::None } else { Self::Stream(body) }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::None => Poll::Ready(None),
            Self::Stream(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::None => true,
            Self::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::None => SizeHint::with_exact(0),
            Self::Stream(body) => body.size_hint(),
        }
    }
}

/// The body of an answer to a client, which counts and reports itself.
#[derive(Debug)]
pub struct ResponseBody {
    source: Source,
    pub(crate) access: Option<Box<Access>>,
    /// Held until the client has it all.
    pub(crate) busy: Option<Busy>,
}

#[derive(Debug)]
enum Source {
    Page(Full<Bytes>),
    Local(UnsyncBoxBody<Bytes, BodyError>),
    Backend(Box<Backend>),
}

/// A body that a backend sends.
#[derive(Debug)]
struct Backend {
    body: Incoming,
    /// The connection it comes on, which is read from here; an HTTP/2 one is read by a task of its own.
    link: Option<Link>,
    idle: Duration,
    clock: Clock,
    drain: Drain,
}

/// Ends some time after a route has gone.
pub(crate) struct Drain {
    retired: CancellationToken,
    time: Duration,
    over: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Drain {
    pub(crate) const fn new(retired: CancellationToken, time: Duration) -> Self {
        Self { retired, time, over: None }
    }

    /// Ready when whoever uses the route must come to an end.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let over = self.over.get_or_insert_with(|| {
            let (retired, time) = (self.retired.clone(), self.time);
            Box::pin(async move {
                retired.cancelled().await;
                tokio::time::sleep(time).await;
            })
        });
        over.as_mut().poll(cx)
    }
}

impl std::fmt::Debug for Drain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Drain")
            .field("retired", &self.retired)
            .field("time", &self.time)
            .finish_non_exhaustive()
    }
}

impl ResponseBody {
    /// A body that is there already.
    #[must_use]
    pub fn page(bytes: impl Into<Bytes>) -> Self {
        Self { source: Source::Page(Full::new(bytes.into())), access: None, busy: None }
    }

    /// A body of the agent's own.
    pub fn local<B>(body: B) -> Self
    where
        B: Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
    {
        use http_body_util::BodyExt as _;
        Self { source: Source::Local(body.map_err(Into::into).boxed_unsync()), access: None, busy: None }
    }

    pub(crate) fn backend(body: Incoming, link: Option<Link>, idle: Duration, drain: Drain) -> Self {
        let mut backend = Backend { body, link, idle, clock: Clock::default(), drain };
        if backend.body.is_end_stream() {
            backend.release();
        }
        Self { source: Source::Backend(Box::new(backend)), access: None, busy: None }
    }
}

impl Backend {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_pending()
            && let Some(link) = &mut self.link
        {
            link.drive(cx);
            polled = Pin::new(&mut self.body).poll_frame(cx);
        }
        if let Poll::Ready(frame) = polled {
            self.clock.restart();
            if frame.is_none() || self.body.is_end_stream() {
                self.release();
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        if self.drain.poll(cx).is_ready() {
            return Poll::Ready(Some(Err(Cut("its workload has gone").into())));
        }
        ready!(self.clock.poll(cx, self.idle));
        Poll::Ready(Some(Err(Cut("nothing moved for too long").into())))
    }

    /// Nothing more comes: the connection may serve another request.
    fn release(&mut self) {
        if let Some(link) = self.link.take() {
            link.release();
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let frame = ready!(match &mut this.source {
            Source::Page(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            Source::Local(body) => Pin::new(body).poll_frame(cx),
            Source::Backend(body) => body.poll_frame(cx),
        });
        if let Some(access) = &mut this.access {
            match &frame {
                Some(Ok(frame)) => access.count(frame.data_ref().map_or(0, Bytes::len)),
                Some(Err(error)) => access.note_cut(error),
                None => {}
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Page(body) => body.is_end_stream(),
            Source::Local(body) => body.is_end_stream(),
            Source::Backend(body) => body.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Page(body) => body.size_hint(),
            Source::Local(body) => body.size_hint(),
            Source::Backend(body) => body.body.size_hint(),
        }
    }
}
