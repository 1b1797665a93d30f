//! How one registry lets us in: anonymously, with a name and password, or with a bearer token that a token server gives
//! for either (distribution project, "Token Authentication Specification" and "OAuth2 Token Authentication").
//!
//! It refuses to answer anybody but the registry itself: not a host that it redirected to, and no token server
//! elsewhere without TLS. Without credentials it asks token servers all the same, as everybody.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use reqwest::{Client, RequestBuilder, Response, StatusCode, Url, header};
use serde::Deserialize;

use super::{expect_success, read_bounded};
use crate::image::{Credential, Credentials, Secret, TransferError, content::json, endpoint::Endpoint};

/// What we call ourselves to token servers.
const CLIENT_ID: &str = "hypercore";

/// What is sent with each request.
pub(super) enum Grant {
    /// The name and password themselves.
    Basic(String, Secret),
    /// A token.
    Bearer(Secret),
}

/// Our standing with one registry, for one repository or for none.
pub(super) struct Access {
    origin: Url,
    registry: String,
    scope: Option<String>,
    credentials: Credentials,
    current: Mutex<Option<Arc<Grant>>>,
    /// Whose credential was shown, once one was.
    user: Mutex<Option<String>>,
    /// Held while a grant is being fetched: layers are pulled in parallel, one of them asks for all.
    renewal: tokio::sync::Mutex<()>,
}

/// A registry's refusal that says how it would be content.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: Url, service: Option<String>, scope: Option<String> },
}

/// What a token server answers.
#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
}

impl Grant {
    /// Adds it to a request; such headers are never logged.
    pub(super) fn apply(&self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Self::Basic(user, password) => request.basic_auth(user, Some(password.expose())),
            Self::Bearer(token) => request.bearer_auth(token.expose()),
        }
    }
}

impl Access {
    /// Nothing was asked for yet. `scope` is what tokens are wanted for.
    pub(super) fn new(endpoint: &Endpoint, scope: Option<String>, credentials: &Credentials) -> Option<Self> {
        Some(Self {
            origin: Url::parse(&endpoint.url()).ok()?,
            registry: endpoint.name.clone(),
            scope,
            credentials: credentials.clone(),
            current: Mutex::default(),
            user: Mutex::default(),
            renewal: tokio::sync::Mutex::default(),
        })
    }

    /// What is to be sent, if anything was ever asked for.
    pub(super) fn current(&self) -> Option<Arc<Grant>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Becomes what the registry's refusal asks for. `refused` is what was sent; if something newer came meanwhile,
    /// that is the answer.
    ///
    /// # Errors
    /// [`TransferError::Unauthorized`] when it wants what we don't have, [`TransferError::LoginRefused`] when what we
    /// have is wrong, and whatever the token server answers.
    pub(super) async fn renew(
        &self,
        clients: &TokenClients,
        refusal: &Response,
        refused: Option<&Arc<Grant>>,
    ) -> Result<Arc<Grant>, TransferError> {
        let _guard = self.renewal.lock().await;
        if let Some(current) = self.current()
            && refused.is_none_or(|refused| !Arc::ptr_eq(&current, refused))
        {
            return Ok(current);
        }
        if !is_same_origin(refusal.url(), &self.origin) {
            tracing::warn!(registry = self.registry, "it redirects to a host that asks for a login: refused");
            return Err(TransferError::Unauthorized);
        }
        let challenge = Challenge::read(refusal.headers()).ok_or(TransferError::Unauthorized)?;
        let credential = self.credentials.find(&self.registry).await.map_err(TransferError::Credentials)?;
        *self.user.lock().unwrap_or_else(PoisonError::into_inner) =
            credential.as_ref().map(|credential| credential.user().to_owned());
        let grant = match (challenge, credential) {
            // The same once more would be refused once more.
            (Challenge::Basic, _) if refused.is_some() => return Err(self.refusal()),
            (Challenge::Basic, Some(Credential::Password { user, password })) => Grant::Basic(user, password),
            (Challenge::Basic, _) => return Err(TransferError::Unauthorized),
            (Challenge::Bearer { realm, service, scope }, credential) => {
                let scope = scope.or_else(|| self.scope.clone());
                let request = self.token_request(clients, realm, service, scope, credential)?;
                Grant::Bearer(self.token(request).await?)
            }
        };
        let grant = Arc::new(grant);
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&grant));
        Ok(grant)
    }

    /// What it means that the registry still says no.
    pub(super) fn refusal(&self) -> TransferError {
        match self.user.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            Some(user) => TransferError::LoginRefused { user },
            None => TransferError::Unauthorized,
        }
    }

    fn token_request(
        &self,
        clients: &TokenClients,
        mut realm: Url,
        service: Option<String>,
        scope: Option<String>,
        credential: Option<Credential>,
    ) -> Result<RequestBuilder, TransferError> {
        if credential.is_some() && realm.scheme() != "https" && !is_same_origin(&realm, &self.origin) {
            let host = realm.host_str().unwrap_or_default().to_owned();
            return Err(TransferError::TokenServerPlain { host });
        }
        let pairs: Vec<_> = [("service", service), ("scope", scope)]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect();
        if let Some(Credential::IdentityToken(token)) = &credential {
            let grant = [("grant_type", "refresh_token"), ("refresh_token", token.expose())];
            let known = pairs.iter().map(|(name, value)| (*name, value.as_str()));
            let body = form(grant.into_iter().chain([("client_id", CLIENT_ID)]).chain(known));
            let content_type = (header::CONTENT_TYPE, "application/x-www-form-urlencoded");
            return Ok(clients.direct.post(realm).header(content_type.0, content_type.1).body(body));
        }
        realm.query_pairs_mut().extend_pairs(pairs);
        Ok(match credential {
            Some(Credential::Password { user, password }) => {
                realm.query_pairs_mut().append_pair("account", &user);
                clients.direct.get(realm).basic_auth(user, Some(password.expose()))
            }
            _ => clients.following.get(realm),
        })
    }

    async fn token(&self, request: RequestBuilder) -> Result<Secret, TransferError> {
        let response = request.send().await.map_err(|error| {
            // The registry itself did answer: saying that it can't be reached would mislead.
            let error: &dyn std::error::Error = &error.without_url();
            tracing::warn!(error, "the server that gives the registry's tokens can't be reached");
            TransferError::Unauthorized
        })?;
        if matches!(
            response.status(),
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
        ) {
            return Err(self.refusal());
        }
        let answer = read_bounded("the token", expect_success(response).await?).await?;
        let answer: Answer = json("the token", &answer).map_err(TransferError::Malformed)?;
        answer.token.or(answer.access_token).map(Secret::new).ok_or(TransferError::Unauthorized)
    }
}

/// The clients that a registry and its token server are asked with.
#[derive(Debug, Clone)]
pub(super) struct TokenClients {
    /// For requests that anybody may see.
    pub(super) following: Client,
    /// For credentials: it follows no redirect.
    pub(super) direct: Client,
}

impl Challenge {
    /// What a refusal says; a token is preferred to sending a password each time.
    fn read(headers: &header::HeaderMap) -> Option<Self> {
        let texts = headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let challenges: Vec<_> =
            texts.filter_map(|text| http_auth::parse_challenges(text).ok()).flatten().collect();
        let of_scheme =
            |scheme: &'static str| challenges.iter().filter(move |it| it.scheme.eq_ignore_ascii_case(scheme));
        for bearer in of_scheme("bearer") {
            let parameter = |wanted: &str| {
                let found = bearer.params.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
                found.map(|(_, value)| value.to_unescaped())
            };
            if let Some(realm) = parameter("realm").and_then(|realm| Url::parse(&realm).ok()) {
                let (service, scope) = (parameter("service"), parameter("scope"));
                return Some(Self::Bearer { realm, service, scope });
            }
        }
        of_scheme("basic").next().map(|_| Self::Basic)
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The grant is left out on purpose.
        write!(f, "Access({})", self.registry)
    }
}

fn form<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut url = Url::parse("http://form").expect("it is a URL");
    url.query_pairs_mut().extend_pairs(pairs);
    url.query().unwrap_or_default().to_owned()
}

fn is_same_origin(one: &Url, other: &Url) -> bool {
    let parts =
        |url: &Url| (url.scheme().to_owned(), url.host_str().map(str::to_owned), url.port_or_known_default());
    parts(one) == parts(other)
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};

    use super::*;

    fn challenge(texts: &[&'static str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for text in texts {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(text));
        }
        Challenge::read(&headers)
    }

    #[test]
    fn a_challenge_tells_where_tokens_come_from() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
            let owned = |text: Option<&str>| text.map(str::to_owned);
            let realm = Url::parse(realm).unwrap();
            Some(Challenge::Bearer { realm, service: owned(service), scope: owned(scope) })
        };
        assert_eq!(
            challenge(&[
                "Basic realm=\"x\"",
                r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:web:pull""#
            ]),
            bearer("https://auth.example/token", Some("registry.example"), Some("repository:web:pull"))
        );
        assert_eq!(
            challenge(&[r#"bearer Realm="https://auth.example/token?x=1""#]),
            bearer("https://auth.example/token?x=1", None, None)
        );
    }

    #[test]
    fn registries_that_want_passwords_are_told_apart() {
        assert_eq!(challenge(&[r#"Basic realm="registry""#]), Some(Challenge::Basic));
        for useless in [r#"Bearer service="no realm""#, "Bearer realm=", r#"Digest realm="x""#] {
            assert_eq!(challenge(&[useless]), None, "{useless}");
        }
    }

    #[test]
    fn forms_are_escaped() {
        assert_eq!(form([("a", "x&y=z"), ("b", "ä /")].into_iter()), "a=x%26y%3Dz&b=%C3%A4+%2F");
    }

    #[test]
    fn another_port_is_another_origin() {
        let url = |text: &str| Url::parse(text).unwrap();
        assert!(is_same_origin(&url("https://a.example/x"), &url("https://a.example:443")));
        for other in ["http://a.example", "https://a.example:444", "https://b.example", "https://a.example.b"]
        {
            assert!(!is_same_origin(&url("https://a.example"), &url(other)), "{other}");
        }
    }
}
