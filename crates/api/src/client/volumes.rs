//! The calls about volumes kept on the node.

use std::collections::BTreeMap;

use tonic::{service::interceptor::InterceptedService, transport::Channel};

use super::{Client, Credentials};
use crate::{
    error::{ApiError, ErrorKind},
    v1::{self, volume_service_client::VolumeServiceClient},
};

impl Client {
    /// Makes a volume; with an empty name one is drawn, and with a capacity it is a disk.
    ///
    /// # Errors
    /// As [`Client::node_info`], here and below.
    pub async fn volume_create(
        &self,
        name: &str,
        labels: BTreeMap<String, String>,
        capacity_bytes: Option<u64>,
    ) -> Result<v1::Volume, ApiError> {
        let request = v1::VolumeCreateRequest {
            name: name.to_owned(),
            labels: labels.into_iter().collect(),
            capacity_bytes: capacity_bytes.unwrap_or(0),
        };
        whole(self.volumes().create(request).await?.into_inner().volume)
    }

    /// Every volume the node has, without sizes.
    pub async fn volume_list(&self) -> Result<Vec<v1::Volume>, ApiError> {
        Ok(self.volumes().list(v1::VolumeListRequest {}).await?.into_inner().volumes)
    }

    /// One volume, with its size.
    pub async fn volume_inspect(&self, name: &str) -> Result<v1::Volume, ApiError> {
        let request = v1::VolumeInspectRequest { name: name.to_owned() };
        whole(self.volumes().inspect(request).await?.into_inner().volume)
    }

    /// Removes a volume with all that is in it; answers its name.
    pub async fn volume_remove(&self, name: &str) -> Result<String, ApiError> {
        let request = v1::VolumeRemoveRequest { name: name.to_owned() };
        Ok(self.volumes().remove(request).await?.into_inner().name)
    }

    fn volumes(&self) -> VolumeServiceClient<InterceptedService<Channel, Credentials>> {
        VolumeServiceClient::new(self.channel.clone())
    }
}

fn whole(volume: Option<v1::Volume>) -> Result<v1::Volume, ApiError> {
    volume.ok_or_else(|| {
        ApiError::new(ErrorKind::Failed, "answer_incomplete", "the agent answered without the volume")
    })
}
