//! `ClusterService`: each call goes to the file that is named after what it does.

use std::{pin::Pin, sync::Arc};

use futures_util::Stream;
use hypercore_api::v1::{self, cluster_service_server::ClusterService};
use hypercore_cluster::state::{Command, Rejection, WorkloadRecord};
use hypercore_model::WorkloadSpec;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Handlers, problem::Problem, request, target, view};
use crate::clock;

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
        Ok(Response::new(self.spawn_workload(call.into_inner()).await?))
    }

    async fn stop(&self, call: Request<v1::VmStopRequest>) -> Result<Response<v1::VmStopResponse>, Status> {
        Ok(Response::new(self.stop_workload(call.into_inner()).await?))
    }

    async fn kill(&self, call: Request<v1::KillRequest>) -> Result<Response<v1::KillResponse>, Status> {
        Ok(Response::new(self.kill_workload(call.into_inner()).await?))
    }

    async fn remove(&self, call: Request<v1::RemoveRequest>) -> Result<Response<v1::RemoveResponse>, Status> {
        Ok(Response::new(self.remove_workload(call.into_inner()).await?))
    }

    async fn list(&self, call: Request<v1::ListRequest>) -> Result<Response<v1::NodesStateResponse>, Status> {
        let all = call.into_inner().all;
        let records: Vec<Arc<WorkloadRecord>> =
            self.node.ledger.read(|state| state.workloads().cloned().collect());
        let shown = records.iter().filter_map(|record| {
            let is_final = self.node.board.get(record.id).is_some_and(|observed| observed.status.is_final());
            (all || !is_final).then(|| view::workload(&self.node, record))
        });
        let mut workloads: Vec<v1::WorkloadState> = shown.collect();
        workloads.sort_by(|a, b| b.created_at_ms.cmp(&a.created_at_ms).then_with(|| a.id.cmp(&b.id)));
        let state =
            v1::NodeStateResponse { node: Some(self.this_node()), workloads, state_signature: Vec::new() };
        Ok(Response::new(v1::NodesStateResponse { nodes: vec![state] }))
    }

    async fn inspect(
        &self,
        call: Request<v1::InspectRequest>,
    ) -> Result<Response<v1::InspectResponse>, Status> {
        let record = target::known(&self.node, &call.into_inner().id)?;
        Ok(Response::new(v1::InspectResponse { workload: Some(view::workload(&self.node, &record)) }))
    }

    async fn logs(&self, call: Request<v1::LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        Ok(Response::new(Box::pin(self.logs_of(&call.into_inner())?)))
    }

    async fn exec(
        &self,
        call: Request<Streaming<v1::ExecRequest>>,
    ) -> Result<Response<Self::ExecStream>, Status> {
        Ok(Response::new(self.exec_in(call.into_inner()).await?))
    }

    async fn attach(
        &self,
        call: Request<Streaming<v1::AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        Ok(Response::new(self.attach_to(call.into_inner()).await?))
    }

    async fn wait(&self, call: Request<v1::WaitRequest>) -> Result<Response<v1::WaitResponse>, Status> {
        Ok(Response::new(self.wait_workload(call.into_inner()).await?))
    }

    async fn progress(
        &self,
        call: Request<v1::ProgressRequest>,
    ) -> Result<Response<Self::ProgressStream>, Status> {
        Ok(Response::new(Box::pin(self.progress_of(&call.into_inner())?)))
    }

    async fn events(&self, _: Request<v1::EventsRequest>) -> Result<Response<Self::EventsStream>, Status> {
        Err(Status::unimplemented("this agent does not know `events` yet"))
    }

    async fn stats(&self, _: Request<v1::StatsRequest>) -> Result<Response<Self::StatsStream>, Status> {
        Err(Status::unimplemented("this agent does not know `stats` yet"))
    }

    async fn pause(&self, _: Request<v1::PauseRequest>) -> Result<Response<v1::PauseResponse>, Status> {
        Err(Status::unimplemented("this agent does not know `pause` yet"))
    }

    async fn resume(&self, _: Request<v1::ResumeRequest>) -> Result<Response<v1::ResumeResponse>, Status> {
        Err(Status::unimplemented("this agent does not know `resume` yet"))
    }

    async fn copy(
        &self,
        _: Request<Streaming<v1::CopyRequest>>,
    ) -> Result<Response<Self::CopyStream>, Status> {
        Err(Status::unimplemented("this agent does not know `copy` yet"))
    }
}

impl Handlers {
    /// Commits the wish to run a workload. Everything else follows from the state.
    async fn spawn_workload(&self, call: v1::VmSpawnRequest) -> Result<v1::VmSpawnResponse, Problem> {
        let (chosen, spec) = request::workload(&call)?;
        if call.dry_run {
            self.check_name(&spec)?;
            return Ok(v1::VmSpawnResponse::default());
        }
        let id = match chosen {
            Some(id) => id,
            None => clock::new_workload_id().map_err(|error| Problem::fault("no_entropy", &error))?,
        };
        let create = Command::CreateWorkload { id, spec: Box::new(spec), node: self.node.identity };
        self.node.ledger.submit(create).await?;
        Ok(v1::VmSpawnResponse { id: id.to_string(), url: String::new() })
    }

    fn check_name(&self, spec: &WorkloadSpec) -> Result<(), Problem> {
        let Some(name) = &spec.name else { return Ok(()) };
        match self.node.ledger.read(|state| state.by_name(name).map(|record| record.id)) {
            None => Ok(()),
            Some(by) => Err(Rejection::NameTaken { name: name.clone(), by }.into()),
        }
    }
}
