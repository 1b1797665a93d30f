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

    /// Removes a reference; answers how many bytes of disk that gave back.
    pub async fn image_remove(&self, reference: &str) -> Result<u64, ApiError> {
        let request = v1::ImageRemoveRequest { reference: reference.to_owned(), force: false };
        Ok(self.images().remove(request).await?.into_inner().freed_bytes)
    }

    /// Reads an image from an absolute path on the node's disk, under another name when `reference` isn't empty.
    pub async fn image_import(&self, path: &str, reference: &str) -> Result<Vec<v1::Image>, ApiError> {
        let request = v1::ImageImportRequest { path: path.to_owned(), reference: reference.to_owned() };
        Ok(self.images().import(request).await?.into_inner().images)
    }

    fn images(&self) -> ImageServiceClient<InterceptedService<Channel, Credentials>> {
        ImageServiceClient::new(self.channel.clone())
    }
}
