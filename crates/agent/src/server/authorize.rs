//! Stands before every handler: who calls is found out and put into the request, and who may not call is answered
//! here. It refuses methods that the table of [`rules`] doesn't have, whoever calls.

pub(super) mod rules;

#[cfg(test)]
mod tests;

use std::{
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use hypercore_model::Scope;
use tonic::{
    Code, Status,
    body::Body,
    codegen::http::{self, header},
};
use tower::{Layer, Service};

use super::{network::Visitor, problem::Problem};
use crate::access::{Access, Caller, Stranger};
use rules::Rule;

/// How much of a method's name the log shows.
const METHOD_CHARACTERS_MAX: usize = 80;

/// Through which door requests come.
#[derive(Debug, Clone)]
pub(super) enum Door {
    /// The node's Unix socket, which only root can open.
    Local,
    /// The network: callers show tokens.
    Network(Access),
}

impl Door {
    /// Who makes this request. `None` may ask what anybody may.
    fn know(&self, request: &http::Request<Body>) -> Result<Option<Caller>, Problem> {
        let shown = request.headers().get(header::AUTHORIZATION).map(http::HeaderValue::as_bytes);
        let caller = match self {
            Self::Local => Ok(Caller::local()),
            Self::Network(access) => access.authorize(shown),
        };
        if rules::rule(request.uri().path()) == Some(Rule::Open) {
            return Ok(caller.ok());
        }
        let caller = caller?;
        if let Some(visitor) = request.extensions().get::<Visitor>() {
            visitor.is_known_now();
        }
        Ok(Some(caller))
    }
}

/// Whether the method's rule lets this caller make the request.
fn check(request: &http::Request<Body>, caller: Option<&Caller>) -> Result<(), Problem> {
    match (rules::rule(request.uri().path()), caller) {
        (None, _) => Err(Problem::new(Code::Unimplemented, "unknown_method", "there is no such method")),
        (Some(Rule::Open), _) => Ok(()),
        (Some(Rule::Needs(scope)), Some(caller)) => Ok(caller.require(scope, "this")?),
        (Some(Rule::NeedsUnbound(scope)), Some(caller)) => {
            caller.require(scope, "this")?;
            Ok(caller.require_unbound("what belongs to no tenant")?)
        }
        (Some(_), None) => Err(Stranger::NoToken.into()),
    }
}

/// Puts an [`Authorize`] before a service.
#[derive(Debug, Clone)]
pub(super) struct AuthorizeLayer {
    door: Arc<Door>,
}

impl AuthorizeLayer {
    /// For requests that come through this door.
    pub(super) fn new(door: Door) -> Self {
        Self { door: Arc::new(door) }
    }
}

impl<S> Layer<S> for AuthorizeLayer {
    type Service = Authorize<S>;

    fn layer(&self, inner: S) -> Authorize<S> {
        Authorize { door: Arc::clone(&self.door), inner }
    }
}

/// Lets through what is allowed.
#[derive(Debug, Clone)]
pub(super) struct Authorize<S> {
    door: Arc<Door>,
    inner: S,
}

impl<S> Service<http::Request<Body>> for Authorize<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Future: Send + 'static>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let known = self.door.know(&request);
        let note = Note::of(&request, known.as_ref().ok().and_then(Option::as_ref));
        let admitted = known.and_then(|caller| check(&request, caller.as_ref()).map(|()| caller));
        let caller = match admitted {
            Ok(caller) => caller,
            Err(problem) => {
                note.refused(&problem.to_string());
                return Box::pin(async move { Ok(Status::from(problem).into_http()) });
            }
        };
        note.called();
        request.extensions_mut().extend(extensions(caller));
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            // A handler may have found that the request reaches too far: the head of its answer says so.
            let head = answer.as_ref().ok().and_then(|answer| answer.headers().get(Status::GRPC_STATUS));
            if head.is_some_and(|code| Code::from_bytes(code.as_bytes()) == Code::PermissionDenied) {
                note.refused("its handler refused");
            }
            answer
        })
    }
}

fn extensions(caller: Option<Caller>) -> http::Extensions {
    let mut extensions = http::Extensions::new();
    if let Some(caller) = caller {
        extensions.insert(caller);
    }
    extensions
}

/// What the log says of one call from the network: that it was refused, or that it changes something.
struct Note {
    peer: Option<SocketAddr>,
    caller: Option<Caller>,
    method: String,
    is_change: bool,
}

impl Note {
    fn of(request: &http::Request<Body>, caller: Option<&Caller>) -> Self {
        let path = request.uri().path();
        let needs = match rules::rule(path) {
            Some(Rule::Needs(scope) | Rule::NeedsUnbound(scope)) => Some(scope),
            _ => None,
        };
        Self {
            peer: request.extensions().get::<Visitor>().map(Visitor::address),
            caller: caller.cloned(),
            // A stranger's path is shown as text, and no longer than any of ours.
            method: path.escape_default().take(METHOD_CHARACTERS_MAX).collect(),
            is_change: needs.is_some_and(|scope| scope > Scope::Read),
        }
    }

    fn called(&self) {
        if let (true, Some(peer), Some(caller)) = (self.is_change, self.peer, &self.caller) {
            tracing::info!(%peer, %caller, method = self.method, "call");
        }
    }

    fn refused(&self, why: &str) {
        let Some(peer) = self.peer else { return };
        let caller = self.caller.as_ref().map_or_else(|| "a stranger".to_owned(), Caller::to_string);
        tracing::info!(%peer, caller, method = self.method, why, "refused a call");
    }
}
