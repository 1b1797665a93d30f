//! The calls about images kept on the node.

use tonic::{service::interceptor::InterceptedService, transport::Channel};

use super::{Client, Credentials, Incoming};
use crate::{
    error::ApiError,
    v1::{self, image_service_client::ImageServiceClient},
};

impl Client {
    /// Fetches an image; the messages tell how far it is and end with the image.
    ///
    /// # Errors
    /// As [`Client::node_info`], here and below.
    pub async fn image_pull(&self, reference: &str) -> Result<Incoming<v1::ImagePullEvent>, ApiError> {
        let request = v1::ImagePullRequest { reference: reference.to_owned() };
        Ok(Incoming::new(self.images().pull(request).await?.into_inner()))
    }

    /// Every image the node has.
    pub async fn image_list(&self) -> Result<Vec<v1::Image>, ApiError> {
        Ok(self.images().list(v1::ImageListRequest {}).await?.into_inner().images)
    }

    /// Removes a reference, with `force` also one that a workload uses; answers how many bytes of disk that gave back.
    pub async fn image_remove(&self, reference: &str, force: bool) -> Result<u64, ApiError> {
        let request = v1::ImageRemoveRequest { reference: reference.to_owned(), force };
        Ok(self.images().remove(request).await?.into_inner().freed_bytes)
    }

    /// Reads an image from an absolute path on the node's disk, under another name when `reference` isn't empty.
    pub async fn image_import(&self, path: &str, reference: &str) -> Result<Vec<v1::Image>, ApiError> {
        let request = v1::ImageImportRequest { path: path.to_owned(), reference: reference.to_owned() };
        Ok(self.images().import(request).await?.into_inner().images)
    }

    /// Removes content that nothing needs, with `all` also references that no workload uses.
    pub async fn image_prune(&self, all: bool) -> Result<v1::ImagePruneResponse, ApiError> {
        Ok(self.images().prune(v1::ImagePruneRequest { all }).await?.into_inner())
    }

    /// Looks for a signature that one of the keys (PEM; none means those of the node's settings) made of an image.
    pub async fn image_verify(
        &self,
        reference: &str,
        keys: Vec<String>,
    ) -> Result<v1::ImageVerifyResponse, ApiError> {
        let request = v1::ImageVerifyRequest { reference: reference.to_owned(), keys };
        Ok(self.images().verify(request).await?.into_inner())
    }

    /// Has the node try a login at a registry and keep it; answers the registry's name in image references.
    pub async fn image_login(
        &self,
        registry: &str,
        user: &str,
        password: String,
    ) -> Result<String, ApiError> {
        let (registry, username) = (registry.to_owned(), user.to_owned());
        let request = v1::ImageLoginRequest { registry, username, password };
        Ok(self.images().login(request).await?.into_inner().registry)
    }

    /// Has the node forget a login; answers the registry's name in image references.
    pub async fn image_logout(&self, registry: &str) -> Result<String, ApiError> {
        let request = v1::ImageLogoutRequest { registry: registry.to_owned() };
        Ok(self.images().logout(request).await?.into_inner().registry)
    }

    fn images(&self) -> ImageServiceClient<InterceptedService<Channel, Credentials>> {
        ImageServiceClient::new(self.channel.clone())
    }
}
