//! The fake's `TokenService`.

use hypercore_api::v1::{self, token_service_server::TokenService};
use tonic::{Request, Response, Status};

use super::Service;

/// What the fake gives out as a secret.
pub(crate) const SECRET: &str = "hc1.0101010101010101.secret";

#[tonic::async_trait]
impl TokenService for Service {
    async fn create(
        &self,
        call: Request<v1::TokenCreateRequest>,
    ) -> Result<Response<v1::TokenCreateResponse>, Status> {
        let call = call.into_inner();
        self.note(format!("token create {call:?}"))?;
        let token = v1::Token {
            id: "01".repeat(8),
            name: call.name,
            scopes: call.scopes,
            tenant: call.tenant,
            created_at_ms: 1_800_000_000_000,
            expires_at_ms: (call.ttl_ms > 0).then_some(1_800_000_000_000 + call.ttl_ms),
        };
        Ok(Response::new(v1::TokenCreateResponse { token: Some(token), secret: SECRET.into() }))
    }

    async fn list(
        &self,
        _: Request<v1::TokenListRequest>,
    ) -> Result<Response<v1::TokenListResponse>, Status> {
        self.note("token list")?;
        Ok(Response::new(v1::TokenListResponse { tokens: self.script.tokens.clone() }))
    }

    async fn revoke(
        &self,
        call: Request<v1::TokenRevokeRequest>,
    ) -> Result<Response<v1::TokenRevokeResponse>, Status> {
        let id = call.into_inner().id;
        self.note(format!("token revoke {id}"))?;
        Ok(Response::new(v1::TokenRevokeResponse { id }))
    }
}
