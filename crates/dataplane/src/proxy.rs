//! One request: checked, routed, sent on, answered. It refuses to decide where routes lead and how backends are
//! reached, and it refuses what two servers could read differently.

mod activity;
mod forward;
mod target;
mod tunnel;

use std::{net::SocketAddr, sync::Arc, time::Instant};

use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Version, header, request::Parts};
use hyper::body::Incoming;

pub(crate) use activity::{Activity, Busy};
use target::Target;
pub(crate) use tunnel::Tunnel;

use crate::{
    access::Access,
    acme::Challenges,
    body::{Drain, RequestBody, ResponseBody},
    config::IngressConfig,
    connector::Connector,
    page::{Problem, wants_html},
    request_id::{RequestId, RequestIds},
    routes::{Backend, Entry, RouteState, Routes},
    server::{LocalPages, Scheme, Visit},
    tls::Certificates,
    upstream::{Answer, ExchangeError, Upstream},
};

/// The header that carries a request's id.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What all connections of an ingress share.
pub(crate) struct Proxy<C: Connector> {
    pub(crate) config: Arc<IngressConfig>,
    pub(crate) routes: Routes,
    pub(crate) upstream: Upstream<C>,
    pub(crate) local: Option<LocalPages>,
    pub(crate) challenges: Challenges,
    pub(crate) ids: Arc<RequestIds>,
}

/// Where a request came from.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    /// The address as `X-Forwarded-For` has it.
    pub(crate) address_text: HeaderValue,
    pub(crate) scheme: Scheme,
    /// The name that a TLS client asked for, and the certificates it was answered from.
    pub(crate) server_name: Option<(String, Certificates)>,
    pub(crate) activity: Arc<Activity>,
}

impl<C: Connector> Proxy<C> {
    /// Answers one request, whatever happens.
    pub(crate) async fn handle(&self, client: &Client, request: Request<Incoming>) -> Response<ResponseBody> {
        let busy = client.activity.begin();
        let id = self.ids.next();
        let (parts, body) = request.into_parts();
        let mut access =
            self.config.access_log.then(|| Box::new(Access::new(id, client.address.ip(), &parts)));
        let (html, version) = (wants_html(&parts.headers), parts.version);
        let answered = self.answer(client, id, parts, body, access.as_deref_mut()).await;
        let mut response = answered.unwrap_or_else(|problem| {
            let mut page = problem.page(id, html);
            // Whoever sends one request in doubt may have sent others behind it.
            if version != Version::HTTP_2
                && page.status().is_client_error()
                && !matches!(problem, Problem::NoRoute(..))
            {
                page.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            page
        });
        if let Some(access) = &mut access {
            access.status = response.status();
        }
        let body = response.body_mut();
        body.access = access;
        body.busy = Some(busy);
        response
    }

    async fn answer(
        &self,
        client: &Client,
        id: RequestId,
        parts: Parts,
        body: Incoming,
        access: Option<&mut Access>,
    ) -> Result<Response<ResponseBody>, Problem> {
        let target = Target::of(&parts, self.config.limits.target_bytes_max)?;
        if let Some(answer) = self.challenges.answer(parts.uri.path()) {
            return Ok(Response::new(ResponseBody::page(answer)));
        }
        client.check_server_name(&target)?;
        let label = target.host.as_ref().and_then(|host| host.below(&self.config.base_domain));
        let Some(label) = label else {
            return self.elsewhere(client, &target, Request::from_parts(parts, body)).await;
        };
        if let Scheme::Redirecting { https_port } = client.scheme {
            return Ok(redirect(&target, https_port));
        }
        let host = || target.host.as_ref().map(ToString::to_string).unwrap_or_default();
        let entry = self.routes.find(label).map_err(|why| Problem::NoRoute(why, host()))?;
        let label = label.to_owned();
        self.forward(client, id, &label, &entry, target, (parts, body), access).await
    }

    /// A host that is no workload's: the agent's own pages, where there are some.
    async fn elsewhere(
        &self,
        client: &Client,
        target: &Target,
        request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, Problem> {
        if let Some(local) = &self.local
            && let Some(page) = local(client.visit(), request)
        {
            return Ok(page.await);
        }
        match &target.host {
            Some(host) => Err(Problem::NoRoute(crate::routes::NoRoute::Unknown, host.to_string())),
            None => Err(Problem::Bad("it names no host")),
        }
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "what one request is made of; a struct would name them once more"
    )]
    async fn forward(
        &self,
        client: &Client,
        id: RequestId,
        label: &str,
        entry: &Entry,
        target: Target,
        (mut parts, body): (Parts, Incoming),
        mut access: Option<&mut Access>,
    ) -> Result<Response<ResponseBody>, Problem> {
        if let Some(access) = access.as_deref_mut() {
            access.workload = Some(entry.route.workload);
        }
        let backends = match &entry.route.state {
            RouteState::Live(backends) => backends,
            RouteState::NotRunning(status) => return Err(Problem::NotRunning(*status, label.to_owned())),
            RouteState::NoPort => return Err(Problem::NoPort(label.to_owned())),
        };
        let wants_tunnel = tunnel::is_asked_for(&parts);
        let client_end =
            wants_tunnel.then(|| parts.extensions.remove::<hyper::upgrade::OnUpgrade>()).flatten();
        let is_http2 = forward::needs_http2(&parts);
        let version = parts.version;
        forward::rewrite(&mut parts, client, &target, id, is_http2, wants_tunnel);
        let request = Request::from_parts(parts, RequestBody::from(body));
        let begun = Instant::now();
        let blame = |error| blame(error, label);
        let response = if let Some(client_end) = client_end {
            self.open_tunnel(client, entry, backends, request, client_end).await.map_err(blame)?
        } else {
            let answer = self.try_each(entry, backends, request, is_http2).await.map_err(blame)?;
            self.pass_on(entry, answer, version)
        };
        if let Some(access) = access {
            access.upstream = Some(begun.elapsed());
        }
        Ok(response)
    }

    /// Asks one backend, and the next ones as long as none could be reached.
    async fn try_each(
        &self,
        entry: &Entry,
        backends: &[Backend],
        mut request: Request<RequestBody>,
        is_http2: bool,
    ) -> Result<Answer, ExchangeError> {
        let mut left = backends.len();
        for backend in entry.backends(backends) {
            left -= 1;
            let result = if is_http2 {
                self.upstream.exchange_http2(backend, request).await
            } else {
                self.upstream.exchange(backend, request).await
            };
            match result {
                Err(ExchangeError::Connect(_, unharmed) | ExchangeError::ConnectLate(unharmed))
                    if left > 0 =>
                {
                    request = *unharmed;
                }
                result => return result,
            }
        }
        let nobody = std::io::Error::from(std::io::ErrorKind::NotFound);
        Err(ExchangeError::Connect(nobody, Box::new(request)))
    }

    fn pass_on(&self, entry: &Entry, (response, link): Answer, version: Version) -> Response<ResponseBody> {
        let (mut parts, body) = response.into_parts();
        forward::clean_answer(&mut parts.headers, version);
        parts.version = version;
        parts.extensions.clear();
        let timeouts = &self.config.timeouts;
        let drain = Drain::new(entry.retired.clone(), timeouts.drain);
        Response::from_parts(parts, ResponseBody::backend(body, link, timeouts.body_idle, drain))
    }

    /// Sends on a request for an upgrade. When the backend agrees, the client's connection becomes a tunnel.
    async fn open_tunnel(
        &self,
        client: &Client,
        entry: &Entry,
        backends: &[Backend],
        request: Request<RequestBody>,
        client_end: hyper::upgrade::OnUpgrade,
    ) -> Result<Response<ResponseBody>, ExchangeError> {
        let Some(backend) = entry.backends(backends).next() else {
            let nobody = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(ExchangeError::Connect(nobody, Box::new(request)));
        };
        let (mut response, link) = self.upstream.upgrade(backend, request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(self.pass_on(entry, (response, Some(link)), Version::HTTP_11));
        }
        let backend_end = hyper::upgrade::on(&mut response);
        let timeouts = &self.config.timeouts;
        let drain = Drain::new(entry.retired.clone(), timeouts.drain);
        client.activity.become_tunnel(Tunnel {
            client_end,
            backend_end,
            link,
            drain,
            idle: timeouts.tunnel_idle,
        });
        let (mut parts, _) = response.into_parts();
        forward::clean_switch(&mut parts.headers);
        parts.extensions.clear();
        Ok(Response::from_parts(parts, ResponseBody::page("")))
    }
}

impl Client {
    fn visit(&self) -> Visit {
        Visit { address: self.address, is_encrypted: self.scheme == Scheme::Tls }
    }

    /// A connection that was made for one host may serve another only under the same certificate (RFC 9110 §7.4).
    fn check_server_name(&self, target: &Target) -> Result<(), Problem> {
        let (Some((asked, certificates)), Some(host)) = (&self.server_name, &target.host) else {
            return Ok(());
        };
        if asked.eq_ignore_ascii_case(host.as_str()) || certificates.are_same(asked, host.as_str()) {
            Ok(())
        } else {
            Err(Problem::Misdirected)
        }
    }
}

fn redirect(target: &Target, https_port: u16) -> Response<ResponseBody> {
    let host = target.host.as_ref().map(ToString::to_string).unwrap_or_default();
    let port = if https_port == 443 { String::new() } else { format!(":{https_port}") };
    let location = format!("https://{host}{port}{}", target.path_and_query());
    let mut response = Response::new(ResponseBody::page(""));
    // 308 and not 301: the method and the body stay (RFC 9110 §15.4.9).
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

fn blame(error: ExchangeError, label: &str) -> Problem {
    let source = std::error::Error::source(&error).map(ToString::to_string);
    tracing::debug!(workload = label, %error, source, "no answer");
    match error {
        ExchangeError::Connect(..) => Problem::Refused(label.to_owned()),
        ExchangeError::Answer(_) => Problem::NoAnswer(label.to_owned()),
        ExchangeError::ConnectLate(_) | ExchangeError::AnswerLate => Problem::Late(label.to_owned()),
    }
}
