//! A certificate authority that speaks ACME (RFC 8555) over TLS: it checks every signature and nonce, looks for the
//! answer to its challenge itself, and signs what the request asks for and the order allows.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as B64};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateSigningRequestParams, IsCa, Issuer, KeyPair};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

use crate::world::{Body, Server, full};

/// The authority.
pub(crate) struct Authority {
    _server: Server,
    pub(crate) directory_url: String,
    state: Arc<State>,
}

struct State {
    origin: String,
    /// Where the names lead, as far as the authority can see.
    world: SocketAddr,
    issuer: Issuer<'static, KeyPair>,
    life: time::Duration,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    nonces: HashSet<String>,
    last: u64,
    /// Account URL -> its public key.
    accounts: HashMap<String, Value>,
    orders: HashMap<String, Order>,
    issued: Vec<String>,
    refused: Vec<String>,
}

#[derive(Clone)]
struct Order {
    account: String,
    name: String,
    token: String,
    is_valid: bool,
    certificate: Option<String>,
}

type Refusal = (StatusCode, &'static str);

impl Authority {
    /// Starts it; its own root goes to `root`, in PEM. Certificates are good for `life`.
    pub(crate) async fn start(world: SocketAddr, root: &Path, life: time::Duration) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(root, made.cert.pem()).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        // The address is known only once it listens, and its URLs hold it.
        let (tell, told) = tokio::sync::watch::channel(None::<Arc<State>>);
        let server = Server::raw(move |stream| {
            let (acceptor, mut told) = (acceptor.clone(), told.clone());
            async move {
                let state = told.wait_for(Option::is_some).await.unwrap().clone().unwrap();
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(move |request| {
                    let state = Arc::clone(&state);
                    async move { Ok::<_, std::convert::Infallible>(state.answer(request).await) }
                });
                let io = TokioIo::new(stream);
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
            }
        })
        .await;
        let origin = format!("https://localhost:{}", server.address.port());
        let state =
            Arc::new(State { origin: origin.clone(), world, issuer: issuer(), life, book: Mutex::default() });
        tell.send_replace(Some(Arc::clone(&state)));
        Self { _server: server, directory_url: format!("{origin}/directory"), state }
    }

    /// The names that certificates were issued for, in order.
    pub(crate) fn issued(&self) -> Vec<String> {
        self.state.book.lock().unwrap().issued.clone()
    }

    /// What was refused, and why.
    pub(crate) fn refused(&self) -> Vec<String> {
        self.state.book.lock().unwrap().refused.clone()
    }

    pub(crate) fn accounts(&self) -> usize {
        self.state.book.lock().unwrap().accounts.len()
    }
}

fn issuer() -> Issuer<'static, KeyPair> {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Issuer::new(params, KeyPair::generate().unwrap())
}

impl State {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let body = body.collect().await.unwrap().to_bytes();
        let result = match (&parts.method, path.as_str()) {
            (&Method::GET, "/directory") => Ok(self.directory()),
            (&Method::HEAD, "/nonce") => Ok(Response::new(full(""))),
            (&Method::POST, _) => self.post(&path, &body).await,
            _ => Err((StatusCode::NOT_FOUND, "malformed")),
        };
        let mut response = result.unwrap_or_else(|(status, kind)| {
            self.book.lock().unwrap().refused.push(format!("{path}: {kind}"));
            let problem = json!({ "type": format!("urn:ietf:params:acme:error:{kind}"), "detail": path });
            respond(status, &problem)
        });
        response.headers_mut().insert("replay-nonce", self.nonce().parse().unwrap());
        response
    }

    fn directory(&self) -> Response<Body> {
        let url = |path: &str| format!("{}/{path}", self.origin);
        let directory = json!({
            "newNonce": url("nonce"), "newAccount": url("account"), "newOrder": url("order"),
            "revokeCert": url("revoke"), "keyChange": url("key"),
        });
        respond(StatusCode::OK, &directory)
    }

    fn nonce(&self) -> String {
        let mut book = self.book.lock().unwrap();
        book.last += 1;
        let nonce = B64.encode(format!("nonce {}", book.last));
        book.nonces.insert(nonce.clone());
        nonce
    }

    async fn post(&self, path: &str, body: &[u8]) -> Result<Response<Body>, Refusal> {
        let (account, payload) = self.verified(path, body)?;
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match parts.as_slice() {
            ["account"] => Ok(located(StatusCode::CREATED, &json!({ "status": "valid" }), &account)),
            ["order"] => self.new_order(&account, &payload),
            ["order", id] => self.show(id, &account, StatusCode::OK),
            ["authz", id] => self.authorization(id, &account),
            ["challenge", id] => self.challenge(id, &account).await,
            ["finalize", id] => self.finalize(id, &account, &payload),
            ["certificate", id] => {
                let order = self.order(id, &account)?;
                order
                    .certificate
                    .map(|pem| Response::new(full(pem)))
                    .ok_or((StatusCode::NOT_FOUND, "malformed"))
            }
            _ => Err((StatusCode::NOT_FOUND, "malformed")),
        }
    }

    /// Checks nonce, URL and ES256 signature (RFC 8555 §6.2 to §6.5); answers the account's URL and the payload.
    fn verified(&self, path: &str, body: &[u8]) -> Result<(String, Value), Refusal> {
        const MALFORMED: Refusal = (StatusCode::BAD_REQUEST, "malformed");
        let jws: Value = serde_json::from_slice(body).map_err(|_| MALFORMED)?;
        let text = |name: &str| jws[name].as_str().ok_or(MALFORMED);
        let (protected, payload, signature) = (text("protected")?, text("payload")?, text("signature")?);
        let decode = |text: &str| B64.decode(text).map_err(|_| MALFORMED);
        let header: Value = serde_json::from_slice(&decode(protected)?).map_err(|_| MALFORMED)?;
        let mut book = self.book.lock().unwrap();
        if !header["nonce"].as_str().is_some_and(|nonce| book.nonces.remove(nonce)) {
            return Err((StatusCode::BAD_REQUEST, "badNonce"));
        }
        if header["alg"] != "ES256" || header["url"] != format!("{}{path}", self.origin) {
            return Err(MALFORMED);
        }
        let (account, key) = match header["kid"].as_str() {
            Some(kid) => {
                let key = book.accounts.get(kid).ok_or((StatusCode::BAD_REQUEST, "accountDoesNotExist"))?;
                (kid.to_owned(), key.clone())
            }
            None if path == "/account" => {
                (format!("{}/account/{}", self.origin, book.accounts.len() + 1), header["jwk"].clone())
            }
            None => return Err(MALFORMED),
        };
        let coordinate = |name: &str| decode(key[name].as_str().ok_or(MALFORMED)?);
        let point = [&[4][..], &coordinate("x")?, &coordinate("y")?].concat();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .verify(format!("{protected}.{payload}").as_bytes(), &decode(signature)?)
            .map_err(|_| (StatusCode::UNAUTHORIZED, "unauthorized"))?;
        book.accounts.entry(account.clone()).or_insert(key);
        let payload = decode(payload)?;
        let payload = if payload.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&payload).map_err(|_| MALFORMED)?
        };
        Ok((account, payload))
    }

    fn new_order(&self, account: &str, payload: &Value) -> Result<Response<Body>, Refusal> {
        let name =
            payload["identifiers"][0]["value"].as_str().ok_or((StatusCode::BAD_REQUEST, "malformed"))?;
        let id = {
            let mut book = self.book.lock().unwrap();
            let id = (book.orders.len() + 1).to_string();
            let token = B64.encode(format!("token of order {id}"));
            let (account, name) = (account.to_owned(), name.to_owned());
            book.orders
                .insert(id.clone(), Order { account, name, token, is_valid: false, certificate: None });
            id
        };
        self.show(&id, account, StatusCode::CREATED)
    }

    fn order(&self, id: &str, account: &str) -> Result<Order, Refusal> {
        let order = self.book.lock().unwrap().orders.get(id).cloned();
        order.filter(|order| order.account == account).ok_or((StatusCode::NOT_FOUND, "malformed"))
    }

    fn show(&self, id: &str, account: &str, status: StatusCode) -> Result<Response<Body>, Refusal> {
        let (order, origin) = (self.order(id, account)?, &self.origin);
        let word = match &order {
            Order { certificate: Some(_), .. } => "valid",
            Order { is_valid: true, .. } => "ready",
            _ => "pending",
        };
        let mut shown = json!({
            "status": word, "identifiers": [{ "type": "dns", "value": order.name }],
            "authorizations": [format!("{origin}/authz/{id}")], "finalize": format!("{origin}/finalize/{id}"),
        });
        if order.certificate.is_some() {
            shown["certificate"] = format!("{origin}/certificate/{id}").into();
        }
        Ok(located(status, &shown, &format!("{origin}/order/{id}")))
    }

    fn authorization(&self, id: &str, account: &str) -> Result<Response<Body>, Refusal> {
        let order = self.order(id, account)?;
        let word = if order.is_valid { "valid" } else { "pending" };
        let shown = json!({
            "status": word, "identifier": { "type": "dns", "value": order.name },
            "challenges": [
                { "type": "dns-01", "url": format!("{}/nosuch", self.origin), "token": "x", "status": "pending" },
                { "type": "http-01", "url": format!("{}/challenge/{id}", self.origin), "token": order.token, "status": word },
            ],
        });
        Ok(respond(StatusCode::OK, &shown))
    }

    /// Looks at the name itself (RFC 8555 §8.3): the answer must be the token and the account key's thumbprint.
    async fn challenge(&self, id: &str, account: &str) -> Result<Response<Body>, Refusal> {
        let order = self.order(id, account)?;
        let key = self.book.lock().unwrap().accounts[account].clone();
        // RFC 7638: the required members in order, without white space.
        let text =
            format!(r#"{{"crv":{},"kty":{},"x":{},"y":{}}}"#, key["crv"], key["kty"], key["x"], key["y"]);
        let thumbprint = B64.encode(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()));
        let path = format!("/.well-known/acme-challenge/{}", order.token);
        let seen = crate::world::get(self.world, &order.name, &path).await;
        let is_valid = seen.starts_with("HTTP/1.1 200 ")
            && seen.ends_with(&format!("\r\n\r\n{}.{thumbprint}", order.token));
        if !is_valid {
            return Err((StatusCode::FORBIDDEN, "incorrectResponse"));
        }
        self.book.lock().unwrap().orders.get_mut(id).unwrap().is_valid = true;
        let url = format!("{}/challenge/{id}", self.origin);
        Ok(respond(
            StatusCode::OK,
            &json!({ "type": "http-01", "url": url, "token": order.token, "status": "valid" }),
        ))
    }

    fn finalize(&self, id: &str, account: &str, payload: &Value) -> Result<Response<Body>, Refusal> {
        const BAD: Refusal = (StatusCode::FORBIDDEN, "badCSR");
        let order = self.order(id, account)?;
        let request = B64.decode(payload["csr"].as_str().ok_or(BAD)?).map_err(|_| BAD)?;
        let mut request = CertificateSigningRequestParams::from_der(&request.into()).map_err(|_| BAD)?;
        let asked = [rcgen::SanType::DnsName(order.name.as_str().try_into().unwrap())];
        if !order.is_valid || request.params.subject_alt_names != asked {
            return Err(BAD);
        }
        let now = time::OffsetDateTime::now_utc();
        (request.params.not_before, request.params.not_after) = (now - time::Duration::HOUR, now + self.life);
        let certificate = request.signed_by(&self.issuer).map_err(|_| BAD)?;
        {
            let mut book = self.book.lock().unwrap();
            book.issued.push(order.name.clone());
            book.orders.get_mut(id).unwrap().certificate = Some(certificate.pem());
        }
        self.show(id, account, StatusCode::OK)
    }
}

fn respond(status: StatusCode, value: &Value) -> Response<Body> {
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(full(value.to_string()))
        .unwrap()
}

fn located(status: StatusCode, value: &Value, url: &str) -> Response<Body> {
    let mut response = respond(status, value);
    response.headers_mut().insert("location", url.parse().unwrap());
    response
}
