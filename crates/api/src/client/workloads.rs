//! The calls about workloads that are asked and answered, or only watched. Every `id` may be an id, a unique
//! prefix of one, or a name.

use tonic::{service::interceptor::InterceptedService, transport::Channel};

use super::{Client, Credentials, Incoming};
use crate::{
    error::ApiError,
    v1::{self, cluster_service_client::ClusterServiceClient},
};

impl Client {
    /// Asks for a workload; answers once that is committed.
    ///
    /// # Errors
    /// As [`Client::node_info`], here and below.
    pub async fn spawn(&self, request: v1::VmSpawnRequest) -> Result<v1::VmSpawnResponse, ApiError> {
        Ok(self.cluster().spawn(request).await?.into_inner())
    }

    /// Stops a workload; answers its id when it has ended.
    pub async fn stop(&self, request: v1::VmStopRequest) -> Result<String, ApiError> {
        Ok(self.cluster().stop(request).await?.into_inner().id)
    }

    /// Sends `signal` (0 for SIGKILL) to a workload's first process; answers its id.
    pub async fn kill(&self, id: &str, signal: i32) -> Result<String, ApiError> {
        let request = v1::KillRequest { id: id.to_owned(), signal };
        Ok(self.cluster().kill(request).await?.into_inner().id)
    }

    /// Forgets a workload that has ended, or ends it first with `force`; answers its id.
    pub async fn remove(&self, id: &str, force: bool) -> Result<String, ApiError> {
        let request = v1::RemoveRequest { id: id.to_owned(), force };
        Ok(self.cluster().remove(request).await?.into_inner().id)
    }

    /// Every node with its workloads; with `all` also those that have ended.
    pub async fn list(&self, all: bool) -> Result<Vec<v1::NodeStateResponse>, ApiError> {
        Ok(self.cluster().list(v1::ListRequest { all }).await?.into_inner().nodes)
    }

    /// One workload in full.
    pub async fn inspect(&self, id: &str) -> Result<v1::WorkloadState, ApiError> {
        let answer = self.cluster().inspect(v1::InspectRequest { id: id.to_owned() }).await?.into_inner();
        answer.workload.ok_or_else(|| incomplete("a workload"))
    }

    /// Answers when the workload has ended, with how.
    pub async fn wait(&self, id: &str) -> Result<v1::ExitStatus, ApiError> {
        let answer = self.cluster().wait(v1::WaitRequest { id: id.to_owned() }).await?.into_inner();
        answer.exit.ok_or_else(|| incomplete("an exit status"))
    }

    /// How far a workload is on its way to running.
    pub async fn progress(&self, id: &str) -> Result<Incoming<v1::ProgressEvent>, ApiError> {
        let request = v1::ProgressRequest { id: id.to_owned() };
        Ok(Incoming::new(self.cluster().progress(request).await?.into_inner()))
    }

    /// What a workload wrote.
    pub async fn logs(&self, request: v1::LogsRequest) -> Result<Incoming<v1::LogEntry>, ApiError> {
        Ok(Incoming::new(self.cluster().logs(request).await?.into_inner()))
    }

    /// What happened, and goes on to happen when `follow` is set.
    pub async fn events(&self, request: v1::EventsRequest) -> Result<Incoming<v1::Event>, ApiError> {
        Ok(Incoming::new(self.cluster().events(request).await?.into_inner()))
    }

    /// What running workloads use: one look, or one after the other when `follow` is set.
    pub async fn stats(&self, request: v1::StatsRequest) -> Result<Incoming<v1::StatsResponse>, ApiError> {
        Ok(Incoming::new(self.cluster().stats(request).await?.into_inner()))
    }

    /// Holds a workload's processes where they are; answers its id.
    pub async fn pause(&self, id: &str) -> Result<String, ApiError> {
        let request = v1::PauseRequest { id: id.to_owned() };
        Ok(self.cluster().pause(request).await?.into_inner().id)
    }

    /// Lets a paused workload go on; answers its id.
    pub async fn resume(&self, id: &str) -> Result<String, ApiError> {
        let request = v1::ResumeRequest { id: id.to_owned() };
        Ok(self.cluster().resume(request).await?.into_inner().id)
    }

    pub(super) fn cluster(&self) -> ClusterServiceClient<InterceptedService<Channel, Credentials>> {
        ClusterServiceClient::new(self.channel.clone())
    }
}

/// An answer that lacks what its contract promises: an agent of another make, or a defect in ours.
fn incomplete(what: &str) -> ApiError {
    let message = format!("the agent answered without {what}");
    ApiError::new(crate::error::ErrorKind::Failed, "answer_incomplete", message)
}
