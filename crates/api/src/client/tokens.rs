//! The calls about API tokens. Only callers with the scope `admin` may make them.

use super::Client;
use crate::{error::ApiError, v1};

impl Client {
    /// Makes a token; its secret is in the answer and nowhere else.
    ///
    /// # Errors
    /// As [`Client::node_info`], here and below.
    pub async fn token_create(
        &self,
        request: v1::TokenCreateRequest,
    ) -> Result<v1::TokenCreateResponse, ApiError> {
        Ok(self.tokens().create(request).await?.into_inner())
    }

    /// Every token that was not revoked, the newest first.
    pub async fn token_list(&self) -> Result<Vec<v1::Token>, ApiError> {
        Ok(self.tokens().list(v1::TokenListRequest {}).await?.into_inner().tokens)
    }

    /// Makes a token worth nothing; `id` may be an id, a unique prefix of one, or a name. Answers its id.
    pub async fn token_revoke(&self, id: &str) -> Result<String, ApiError> {
        let request = v1::TokenRevokeRequest { id: id.to_owned() };
        Ok(self.tokens().revoke(request).await?.into_inner().id)
    }

    fn tokens(
        &self,
    ) -> v1::token_service_client::TokenServiceClient<
        tonic::service::interceptor::InterceptedService<tonic::transport::Channel, super::Credentials>,
    > {
        v1::token_service_client::TokenServiceClient::new(self.channel.clone())
    }
}
