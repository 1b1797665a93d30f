//! `TokenService`: who may call over the network. A secret is told once, in the answer that made it: what is kept is
//! its hash.

use hypercore_api::v1::{self, token_service_server::TokenService};
use hypercore_cluster::state::{Command, State, TokenGrant, TokenRecord};
use hypercore_model::{Timestamp, TokenId};
use hypercore_trust::{ApiToken, TokenSecret};
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use super::{Handlers, problem::Problem, request};
use crate::clock;

#[tonic::async_trait]
impl TokenService for Handlers {
    async fn create(
        &self,
        call: Request<v1::TokenCreateRequest>,
    ) -> Result<Response<v1::TokenCreateResponse>, Status> {
        let (this, call) = self.open(call)?;
        Ok(Response::new(this.create_token(&call).await?))
    }

    async fn list(
        &self,
        call: Request<v1::TokenListRequest>,
    ) -> Result<Response<v1::TokenListResponse>, Status> {
        let (this, _) = self.open(call)?;
        let mut tokens: Vec<_> = this.node.ledger.read(|state| state.tokens().map(shown).collect());
        tokens
            .sort_by(|a: &v1::Token, b| b.created_at_ms.cmp(&a.created_at_ms).then_with(|| a.id.cmp(&b.id)));
        Ok(Response::new(v1::TokenListResponse { tokens }))
    }

    async fn revoke(
        &self,
        call: Request<v1::TokenRevokeRequest>,
    ) -> Result<Response<v1::TokenRevokeResponse>, Status> {
        let (this, call) = self.open(call)?;
        let id = this.node.ledger.read(|state| find(state, &call.id))?;
        this.node.ledger.submit(Command::RevokeToken { id }).await.map_err(Problem::from)?;
        Ok(Response::new(v1::TokenRevokeResponse { id: id.to_string() }))
    }
}

impl Handlers {
    async fn create_token(&self, call: &v1::TokenCreateRequest) -> Result<v1::TokenCreateResponse, Problem> {
        let grant = request::token(call, clock::now())?;
        let no_entropy = |error: getrandom::Error| Problem::fault("no_entropy", &error);
        let mut id = [0; 8];
        getrandom::fill(&mut id).map_err(no_entropy)?;
        let mut secret = Zeroizing::new([0; 32]);
        getrandom::fill(&mut secret[..]).map_err(no_entropy)?;

        let (id, secret) = (TokenId::from_bytes(id), TokenSecret::from_bytes(secret));
        self.node.ledger.submit(Command::CreateToken { id, grant, hash: secret.hash() }).await?;
        let record = self.node.ledger.read(|state| state.token(&id).map(shown));
        let token = ApiToken { id, secret, authority: self.node.tls.fingerprint() };
        Ok(v1::TokenCreateResponse { token: record, secret: token.reveal().to_string() })
    }
}

fn shown(record: &TokenRecord) -> v1::Token {
    let TokenGrant { name, scopes, tenant, expires_at } = &record.grant;
    v1::Token {
        id: record.id.to_string(),
        name: name.as_ref().map(ToString::to_string).unwrap_or_default(),
        scopes: scopes.iter().map(ToString::to_string).collect(),
        tenant: tenant.as_ref().map(ToString::to_string).unwrap_or_default(),
        created_at_ms: record.created_at.unix_ms(),
        expires_at_ms: expires_at.map(Timestamp::unix_ms),
    }
}

/// The token that a person names by id, name or unique prefix. A name comes before the prefix that it happens to be.
fn find(state: &State, text: &str) -> Result<TokenId, Problem> {
    let by_id = text.parse().ok().and_then(|id| state.token(&id));
    let is_named = |token: &&TokenRecord| token.grant.name.as_ref().is_some_and(|name| name.as_str() == text);
    if let Some(token) = by_id.or_else(|| state.tokens().find(is_named)) {
        return Ok(token.id);
    }
    let mut matches = state.tokens().filter(|token| token.id.has_prefix(text));
    match (matches.next(), matches.next()) {
        (Some(token), None) => Ok(token.id),
        (Some(_), Some(_)) => {
            let message = format!("`{}` is ambiguous among the ids of tokens", text.escape_default());
            Err(Problem::invalid("ambiguous_prefix", message).hint("give more characters of the id"))
        }
        (None, _) => {
            let message = format!("there is no token `{}`", text.escape_default());
            Err(Problem::not_found("token_not_found", message).hint("`hypercore token ls` lists every token"))
        }
    }
}
