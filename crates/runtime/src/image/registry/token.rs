//! Anonymous bearer tokens: what registries that are open to everybody ask for all the same (distribution project,
//! "Token Authentication Specification"). It sends no credentials, because it has none.

use std::sync::Mutex;

use reqwest::{Client, Url, header};
use serde::Deserialize;

use super::{expect_success, read_bounded};
use crate::image::{TransferError, content::json};

/// The token of one repository, once there is one.
pub(super) struct Token {
    scope: String,
    current: Mutex<Option<String>>,
    /// Held while a token is being fetched: layers are pulled in parallel, one of them asks for all.
    renewal: tokio::sync::Mutex<()>,
}

/// What a token server answers.
#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
}

impl Token {
    /// No token yet, for pulling from a repository.
    pub(super) fn new(repository: &str) -> Self {
        Self {
            scope: format!("repository:{repository}:pull"),
            current: Mutex::default(),
            renewal: tokio::sync::Mutex::default(),
        }
    }

    /// The token to be sent, if one was ever asked for.
    pub(super) fn current(&self) -> Option<String> {
        self.lock().clone()
    }

    /// Gets a token as the registry's refusal says. `refused` is the one that was sent; if another came meanwhile,
    /// that is the answer.
    ///
    /// # Errors
    /// [`TransferError::Unauthorized`] when the registry wants more than an anonymous token, and whatever the token
    /// server answers.
    pub(super) async fn renew(
        &self,
        client: &Client,
        headers: &header::HeaderMap,
        refused: Option<&str>,
    ) -> Result<String, TransferError> {
        let _guard = self.renewal.lock().await;
        if let Some(current) = self.current()
            && Some(current.as_str()) != refused
        {
            return Ok(current);
        }
        let url = self.token_url(headers).ok_or(TransferError::Unauthorized)?;
        let response = client.get(url).send().await.map_err(|error| {
            // The registry itself did answer: saying that it can't be reached would mislead.
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "the server that gives the registry's tokens can't be reached");
            TransferError::Unauthorized
        })?;
        let answer = read_bounded("the token", expect_success(response).await?).await?;
        let answer: Answer = json("the token", &answer).map_err(TransferError::Malformed)?;
        let token = answer.token.or(answer.access_token).ok_or(TransferError::Unauthorized)?;
        *self.lock() = Some(token.clone());
        Ok(token)
    }

    /// Where the refusal says that tokens come from.
    fn token_url(&self, headers: &header::HeaderMap) -> Option<Url> {
        let challenges =
            headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        for text in challenges {
            let Ok(challenges) = http_auth::parse_challenges(text) else { continue };
            let Some(bearer) = challenges.iter().find(|it| it.scheme.eq_ignore_ascii_case("bearer")) else {
                continue;
            };
            let parameter = |wanted: &str| {
                let found = bearer.params.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
                found.map(|(_, value)| value.to_unescaped())
            };
            let mut url = Url::parse(&parameter("realm")?).ok()?;
            if let Some(service) = parameter("service") {
                url.query_pairs_mut().append_pair("service", &service);
            }
            let scope = parameter("scope").unwrap_or_else(|| self.scope.clone());
            url.query_pairs_mut().append_pair("scope", &scope);
            return Some(url);
        }
        None
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.current.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};

    use super::*;

    fn url(challenge: &'static str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.append(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"x\""));
        headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        Token::new("library/web").token_url(&headers).map(String::from)
    }

    #[test]
    fn a_challenge_tells_where_tokens_come_from() {
        assert_eq!(
            url(
                r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:web:pull""#
            ),
            Some(
                "https://auth.example/token?service=registry.example&scope=repository%3Aweb%3Apull"
                    .to_owned()
            )
        );
        assert_eq!(
            url(r#"bearer Realm="https://auth.example/token?x=1""#),
            Some("https://auth.example/token?x=1&scope=repository%3Alibrary%2Fweb%3Apull".to_owned())
        );
    }

    #[test]
    fn registries_that_want_passwords_are_told_apart() {
        assert_eq!(url(r#"Basic realm="registry""#), None);
        assert_eq!(url(r#"Bearer service="no realm""#), None);
        assert_eq!(url("Bearer realm="), None);
    }
}
