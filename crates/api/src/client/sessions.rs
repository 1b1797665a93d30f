//! The calls that go both ways: exec, attach and copy. Input waits when the agent can't take more; nothing is dropped.

use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

use super::{Client, Incoming};
use crate::{error::ApiError, v1};

/// Messages on their way to the agent before a sender has to wait.
const INPUT_QUEUE_MAX: usize = 8;

/// An open exec, attach or copy.
#[derive(Debug)]
pub struct Session<In, Out> {
    /// Input, resizes and signals; dropping it ends our half of the stream.
    pub input: mpsc::Sender<In>,
    /// Output, ending with the exit status.
    pub output: Incoming<Out>,
}

impl Client {
    /// Runs one more command inside a workload.
    ///
    /// # Errors
    /// As [`Client::node_info`], here and below.
    pub async fn exec(
        &self,
        start: v1::ExecStart,
    ) -> Result<Session<v1::ExecRequest, v1::ExecResponse>, ApiError> {
        let first = v1::ExecRequest { message: Some(v1::exec_request::Message::Start(start)) };
        let (input, queued) = mpsc::channel(INPUT_QUEUE_MAX);
        let requests = tokio_stream::once(first).chain(ReceiverStream::new(queued));
        let output = self.cluster().exec(requests).await?.into_inner();
        Ok(Session { input, output: Incoming::new(output) })
    }

    /// Joins a workload's first process.
    pub async fn attach(
        &self,
        start: v1::AttachStart,
    ) -> Result<Session<v1::AttachRequest, v1::AttachResponse>, ApiError> {
        let first = v1::AttachRequest { message: Some(v1::attach_request::Message::Start(start)) };
        let (input, queued) = mpsc::channel(INPUT_QUEUE_MAX);
        let requests = tokio_stream::once(first).chain(ReceiverStream::new(queued));
        let output = self.cluster().attach(requests).await?.into_inner();
        Ok(Session { input, output: Incoming::new(output) })
    }

    /// Copies files into a workload or out of it, as a tar stream.
    pub async fn copy(
        &self,
        start: v1::CopyStart,
    ) -> Result<Session<v1::CopyRequest, v1::CopyResponse>, ApiError> {
        let first = v1::CopyRequest { message: Some(v1::copy_request::Message::Start(start)) };
        let (input, queued) = mpsc::channel(INPUT_QUEUE_MAX);
        let requests = tokio_stream::once(first).chain(ReceiverStream::new(queued));
        let output = self.cluster().copy(requests).await?.into_inner();
        Ok(Session { input, output: Incoming::new(output) })
    }
}
