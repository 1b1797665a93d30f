//! `Logs`: what a workload wrote, from its shim's log files.

use std::sync::Arc;

use futures_util::{Stream, StreamExt as _, stream};
use hypercore_api::v1;
use hypercore_model::Timestamp;
use hypercore_runtime::log::LogQuery;
use tonic::Status;

use super::{
    Handlers,
    output::{self, Until},
    problem::Problem,
    target,
};
use crate::{access::Caller, node::Node, supervisor::Supervisor};

impl Handlers {
    pub(super) fn logs_of(
        &self,
        call: &v1::LogsRequest,
    ) -> Result<impl Stream<Item = Result<v1::LogEntry, Status>> + use<>, Problem> {
        let target = target::any(self, &call.id)?;
        let query = LogQuery {
            tail: call.tail.map(|lines| lines as usize),
            since: call.since_ms.map(Timestamp::from_unix_ms),
            follow: call.follow,
            ..LogQuery::default()
        };
        let output = self.output(&target, query, Until::LastEnd)?;
        Ok(stream::unfold(output, |mut output| async move {
            let entry = output.next().await?;
            Some((entry.map(output::entry), output))
        }))
    }
}

/// What a workload wrote, in pieces and without whose stream it was: for those who read it over plain HTTP.
///
/// # Errors
/// As the API tells them.
pub(crate) fn log_text(
    node: &Arc<Node>,
    supervisor: &Supervisor,
    caller: Caller,
    call: &v1::LogsRequest,
) -> Result<impl Stream<Item = Result<Vec<u8>, Status>> + use<>, Status> {
    let handlers = Handlers { caller: Some(caller), ..Handlers::new(Arc::clone(node), supervisor.clone()) };
    Ok(handlers.logs_of(call)?.map(|entry| entry.map(|entry| entry.data)))
}
