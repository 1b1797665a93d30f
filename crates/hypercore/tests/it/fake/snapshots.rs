//! The fake's `SnapshotService`.

use hypercore_api::v1::{self, snapshot_service_server::SnapshotService};
use tonic::{Request, Response, Status};

use super::Service;

#[tonic::async_trait]
impl SnapshotService for Service {
    async fn list(
        &self,
        call: Request<v1::SnapshotListRequest>,
    ) -> Result<Response<v1::SnapshotListResponse>, Status> {
        self.note(format!("snapshots {:?}", call.into_inner()))?;
        Ok(Response::new(v1::SnapshotListResponse { snapshots: self.script.snapshots.clone() }))
    }

    async fn remove(
        &self,
        call: Request<v1::SnapshotRemoveRequest>,
    ) -> Result<Response<v1::SnapshotRemoveResponse>, Status> {
        let name = call.into_inner().name;
        self.note(format!("snapshot remove {name}"))?;
        Ok(Response::new(v1::SnapshotRemoveResponse { name }))
    }
}
