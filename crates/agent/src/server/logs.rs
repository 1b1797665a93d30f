//! `Logs`: what a workload wrote, from its shim's log files.

use futures_util::{Stream, stream};
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
