//! The calls about snapshots of microVMs: to make them, to go on from them, and to see which there are.

use tonic::{service::interceptor::InterceptedService, transport::Channel};

use super::{Client, Credentials};
use crate::{
    error::{ApiError, ErrorKind},
    v1::{self, snapshot_service_client::SnapshotServiceClient},
};

impl Client {
    /// Keeps a running microVM as the snapshot `name`; answers when it is whole.
    ///
    /// # Errors
    /// As [`Client::node_info`], here and below.
    pub async fn snapshot(&self, id: &str, name: &str) -> Result<v1::Snapshot, ApiError> {
        let request = v1::SnapshotRequest { id: id.to_owned(), name: name.to_owned() };
        self.cluster().snapshot(request).await?.into_inner().snapshot.ok_or_else(|| {
            ApiError::new(ErrorKind::Failed, "answer_incomplete", "the agent answered without the snapshot")
        })
    }

    /// Asks for a workload that goes on from a snapshot; answers once that is committed.
    pub async fn restore(&self, request: v1::RestoreRequest) -> Result<v1::VmSpawnResponse, ApiError> {
        Ok(self.cluster().restore(request).await?.into_inner())
    }

    /// Asks for clones of a running microVM; answers once all are committed.
    pub async fn fork(&self, request: v1::ForkRequest) -> Result<Vec<v1::VmSpawnResponse>, ApiError> {
        Ok(self.cluster().fork(request).await?.into_inner().clones)
    }

    /// Every snapshot the caller may see; with `verify` their files are compared with their digests.
    pub async fn snapshot_list(&self, verify: bool) -> Result<Vec<v1::Snapshot>, ApiError> {
        Ok(self.snapshots().list(v1::SnapshotListRequest { verify }).await?.into_inner().snapshots)
    }

    /// Removes a snapshot; answers its name.
    pub async fn snapshot_remove(&self, name: &str) -> Result<String, ApiError> {
        let request = v1::SnapshotRemoveRequest { name: name.to_owned() };
        Ok(self.snapshots().remove(request).await?.into_inner().name)
    }

    fn snapshots(&self) -> SnapshotServiceClient<InterceptedService<Channel, Credentials>> {
        SnapshotServiceClient::new(self.channel.clone())
    }
}
