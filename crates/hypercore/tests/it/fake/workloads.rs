//! The fake's `ClusterService`.

use hypercore_api::{
    ApiError, ErrorKind,
    v1::{self, cluster_service_server::ClusterService},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{ID, Service};

type Answers<T> = ReceiverStream<Result<T, Status>>;

fn answers<T>(items: Vec<T>) -> Answers<T> {
    let (sender, receiver) = tokio::sync::mpsc::channel(items.len().max(1));
    for item in items {
        sender.try_send(Ok(item)).unwrap();
    }
    ReceiverStream::new(receiver)
}

impl Service {
    /// The workload that a caller names, by id, prefix or name.
    fn find(&self, text: &str) -> Result<v1::WorkloadState, Status> {
        let is_meant = |state: &&v1::WorkloadState| {
            state.id.starts_with(text)
                || state.source_request.as_ref().is_some_and(|request| request.name == text)
        };
        let unknown = || {
            ApiError::new(ErrorKind::NotFound, "workload_not_found", format!("there is no workload `{text}`"))
                .with_hint("`hypercore ps -a` lists every workload")
        };
        self.script.workloads.iter().find(is_meant).cloned().ok_or_else(|| unknown().into())
    }
}

#[tonic::async_trait]
impl ClusterService for Service {
    type LogsStream = Answers<v1::LogEntry>;
    type ExecStream = Answers<v1::ExecResponse>;
    type AttachStream = Answers<v1::AttachResponse>;
    type ProgressStream = Answers<v1::ProgressEvent>;
    type EventsStream = Answers<v1::Event>;
    type StatsStream = Answers<v1::StatsResponse>;
    type CopyStream = Answers<v1::CopyResponse>;

    async fn spawn(
        &self,
        call: Request<v1::VmSpawnRequest>,
    ) -> Result<Response<v1::VmSpawnResponse>, Status> {
        self.note(format!("spawn {:?}", call.into_inner()))?;
        Ok(Response::new(v1::VmSpawnResponse { id: ID.into(), url: String::new() }))
    }

    async fn stop(&self, call: Request<v1::VmStopRequest>) -> Result<Response<v1::VmStopResponse>, Status> {
        let call = call.into_inner();
        self.note(format!("stop {call:?}"))?;
        Ok(Response::new(v1::VmStopResponse { id: self.find(&call.id)?.id }))
    }

    async fn kill(&self, call: Request<v1::KillRequest>) -> Result<Response<v1::KillResponse>, Status> {
        let call = call.into_inner();
        self.note(format!("kill {call:?}"))?;
        self.signals.send_replace(call.signal);
        Ok(Response::new(v1::KillResponse { id: ID.into() }))
    }

    async fn remove(&self, call: Request<v1::RemoveRequest>) -> Result<Response<v1::RemoveResponse>, Status> {
        let call = call.into_inner();
        self.note(format!("remove {call:?}"))?;
        Ok(Response::new(v1::RemoveResponse { id: self.find(&call.id)?.id }))
    }

    async fn list(&self, call: Request<v1::ListRequest>) -> Result<Response<v1::NodesStateResponse>, Status> {
        self.note(format!("list {:?}", call.into_inner()))?;
        let workloads = self.script.workloads.clone();
        let node = v1::NodeStateResponse { node: None, workloads, state_signature: Vec::new() };
        Ok(Response::new(v1::NodesStateResponse { nodes: vec![node] }))
    }

    async fn inspect(
        &self,
        call: Request<v1::InspectRequest>,
    ) -> Result<Response<v1::InspectResponse>, Status> {
        let call = call.into_inner();
        self.note(format!("inspect {call:?}"))?;
        Ok(Response::new(v1::InspectResponse { workload: Some(self.find(&call.id)?) }))
    }

    async fn logs(&self, call: Request<v1::LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        self.note(format!("logs {:?}", call.into_inner()))?;
        Ok(Response::new(answers(self.script.logs.clone())))
    }

    async fn exec(
        &self,
        call: Request<Streaming<v1::ExecRequest>>,
    ) -> Result<Response<Self::ExecStream>, Status> {
        self.note("exec")?;
        Ok(Response::new(self.play_exec(call.into_inner())))
    }

    async fn attach(
        &self,
        call: Request<Streaming<v1::AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        self.note("attach")?;
        Ok(Response::new(self.play_attach(call.into_inner())))
    }

    async fn wait(&self, call: Request<v1::WaitRequest>) -> Result<Response<v1::WaitResponse>, Status> {
        let call = call.into_inner();
        self.note(format!("wait {call:?}"))?;
        Ok(Response::new(v1::WaitResponse { exit: self.find(&call.id)?.exit }))
    }

    async fn progress(
        &self,
        call: Request<v1::ProgressRequest>,
    ) -> Result<Response<Self::ProgressStream>, Status> {
        self.note(format!("progress {:?}", call.into_inner()))?;
        let (sender, receiver) = tokio::sync::mpsc::channel(16);
        for event in self.script.progress.clone() {
            sender.try_send(Ok(event)).unwrap();
        }
        if self.script.is_start_endless {
            tokio::runtime::Handle::current().spawn(async move { sender.closed().await });
        }
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn events(&self, _: Request<v1::EventsRequest>) -> Result<Response<Self::EventsStream>, Status> {
        Err(Status::unimplemented("no test plays `events`"))
    }

    async fn stats(&self, _: Request<v1::StatsRequest>) -> Result<Response<Self::StatsStream>, Status> {
        Err(Status::unimplemented("no test plays `stats`"))
    }

    async fn pause(&self, _: Request<v1::PauseRequest>) -> Result<Response<v1::PauseResponse>, Status> {
        Err(Status::unimplemented("no test plays `pause`"))
    }

    async fn resume(&self, _: Request<v1::ResumeRequest>) -> Result<Response<v1::ResumeResponse>, Status> {
        Err(Status::unimplemented("no test plays `resume`"))
    }

    async fn copy(
        &self,
        _: Request<Streaming<v1::CopyRequest>>,
    ) -> Result<Response<Self::CopyStream>, Status> {
        Err(Status::unimplemented("no test plays `copy`"))
    }

    async fn snapshot(
        &self,
        call: Request<v1::SnapshotRequest>,
    ) -> Result<Response<v1::SnapshotResponse>, Status> {
        let call = call.into_inner();
        self.note(format!("snapshot {call:?}"))?;
        let (workload, name) = (self.find(&call.id)?.id, call.name);
        let snapshot = v1::Snapshot { name, workload, size_bytes: 5 << 20, ..Default::default() };
        Ok(Response::new(v1::SnapshotResponse { snapshot: Some(snapshot) }))
    }

    async fn restore(
        &self,
        call: Request<v1::RestoreRequest>,
    ) -> Result<Response<v1::VmSpawnResponse>, Status> {
        self.note(format!("restore {:?}", call.into_inner()))?;
        Ok(Response::new(v1::VmSpawnResponse { id: ID.into(), url: String::new() }))
    }

    async fn fork(&self, call: Request<v1::ForkRequest>) -> Result<Response<v1::ForkResponse>, Status> {
        let call = call.into_inner();
        self.note(format!("fork {call:?}"))?;
        let clone = || v1::VmSpawnResponse { id: ID.into(), url: String::new() };
        Ok(Response::new(v1::ForkResponse { clones: (0..call.count).map(|_| clone()).collect() }))
    }
}
