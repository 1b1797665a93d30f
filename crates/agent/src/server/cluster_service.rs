//! `ClusterService`: each call goes to the file that is named after what it does.

use std::pin::Pin;

use futures_util::Stream;
use hypercore_api::v1::{self, cluster_service_server::ClusterService};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::Handlers;

/// A stream of answers whose type has no name.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl ClusterService for Handlers {
    type LogsStream = Answers<v1::LogEntry>;
    type ExecStream = ReceiverStream<Result<v1::ExecResponse, Status>>;
    type AttachStream = ReceiverStream<Result<v1::AttachResponse, Status>>;
    type ProgressStream = Answers<v1::ProgressEvent>;
    type EventsStream = Answers<v1::Event>;
    type StatsStream = Answers<v1::StatsResponse>;
    type CopyStream = ReceiverStream<Result<v1::CopyResponse, Status>>;

    async fn spawn(
        &self,
        call: Request<v1::VmSpawnRequest>,
    ) -> Result<Response<v1::VmSpawnResponse>, Status> {
        let (this, call) = self.open(call)?;
        Ok(Response::new(this.spawn_workload(call).await?))
    }

    async fn stop(&self, call: Request<v1::VmStopRequest>) -> Result<Response<v1::VmStopResponse>, Status> {
        let (this, call) = self.open(call)?;
        Ok(Response::new(this.stop_workload(call).await?))
    }

    async fn kill(&self, call: Request<v1::KillRequest>) -> Result<Response<v1::KillResponse>, Status> {
        let (this, call) = self.open(call)?;
        Ok(Response::new(this.kill_workload(call).await?))
    }

    async fn remove(&self, call: Request<v1::RemoveRequest>) -> Result<Response<v1::RemoveResponse>, Status> {
        let (this, call) = self.open(call)?;
        Ok(Response::new(this.remove_workload(call).await?))
    }

    async fn list(&self, call: Request<v1::ListRequest>) -> Result<Response<v1::NodesStateResponse>, Status> {
        let (this, call) = self.open(call)?;
        Ok(Response::new(this.list_workloads(call).await?))
    }

    async fn inspect(
        &self,
        call: Request<v1::InspectRequest>,
    ) -> Result<Response<v1::InspectResponse>, Status> {
        let (this, call) = self.open(call)?;
        Ok(Response::new(this.inspect_workload(call).await?))
    }

    async fn logs(&self, call: Request<v1::LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        let (this, call) = self.open(call)?;
        Ok(Response::new(Box::pin(this.logs_of(&call)?)))
    }

    async fn exec(
        &self,
        call: Request<Streaming<v1::ExecRequest>>,
    ) -> Result<Response<Self::ExecStream>, Status> {
        let (this, call) = self.open(call)?;
        Ok(Response::new(this.exec_in(call).await?))
    }

    async fn attach(
        &self,
        call: Request<Streaming<v1::AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let (this, call) = self.open(call)?;
        Ok(Response::new(this.attach_to(call).await?))
    }

    async fn wait(&self, call: Request<v1::WaitRequest>) -> Result<Response<v1::WaitResponse>, Status> {
        let (this, call) = self.open(call)?;
        Ok(Response::new(this.wait_workload(call).await?))
    }

    async fn progress(
        &self,
        call: Request<v1::ProgressRequest>,
    ) -> Result<Response<Self::ProgressStream>, Status> {
        let (this, call) = self.open(call)?;
        Ok(Response::new(Box::pin(this.progress_of(&call)?)))
    }

    async fn events(&self, call: Request<v1::EventsRequest>) -> Result<Response<Self::EventsStream>, Status> {
        let (this, call) = self.open(call)?;
        Ok(Response::new(Box::pin(this.events_of(&call)?)))
    }

    async fn stats(&self, call: Request<v1::StatsRequest>) -> Result<Response<Self::StatsStream>, Status> {
        let (this, call) = self.open(call)?;
        Ok(Response::new(Box::pin(this.stats_of(call).await?)))
    }

    async fn pause(&self, call: Request<v1::PauseRequest>) -> Result<Response<v1::PauseResponse>, Status> {
        let (this, call) = self.open(call)?;
        Ok(Response::new(this.pause_workload(call).await?))
    }

    async fn resume(&self, call: Request<v1::ResumeRequest>) -> Result<Response<v1::ResumeResponse>, Status> {
        let (this, call) = self.open(call)?;
        Ok(Response::new(this.resume_workload(call).await?))
    }

    async fn snapshot(
        &self,
        call: Request<v1::SnapshotRequest>,
    ) -> Result<Response<v1::SnapshotResponse>, Status> {
        let (this, call) = self.open(call)?;
        Ok(Response::new(this.snapshot_workload(call).await?))
    }

    async fn restore(
        &self,
        call: Request<v1::RestoreRequest>,
    ) -> Result<Response<v1::VmSpawnResponse>, Status> {
        let (this, call) = self.open(call)?;
        Ok(Response::new(this.restore_snapshot(call).await?))
    }

    async fn fork(&self, call: Request<v1::ForkRequest>) -> Result<Response<v1::ForkResponse>, Status> {
        let (this, call) = self.open(call)?;
        Ok(Response::new(this.fork_workload(call).await?))
    }

    async fn copy(
        &self,
        call: Request<Streaming<v1::CopyRequest>>,
    ) -> Result<Response<Self::CopyStream>, Status> {
        let (this, call) = self.open(call)?;
        Ok(Response::new(this.copy_with(call).await?))
    }
}
