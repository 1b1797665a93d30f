//! A workload's output as callers read it: its log, followed until the workload has ended in whatever way.

use std::{future::Future, pin::Pin};

use hypercore_api::v1;
use hypercore_model::Timestamp;
use hypercore_runtime::log::{LogEntry, LogQuery, LogReader, LogStream};
use tonic::Status;

use super::{
    Handlers, lifetime,
    problem::Problem,
    target::{self, Target},
};

/// A reader that also ends when the workload did so without leaving a record.
pub(super) struct Output {
    reader: LogReader,
    /// Completes when the workload has ended; `None` afterwards.
    ended: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Handlers {
    /// The output of a workload.
    pub(super) fn output(&self, target: &Target, query: LogQuery) -> Result<Output, Problem> {
        let (directory, ended) = match target {
            Target::Known(record) => {
                let mut observed = target::observe(&self.node, record.id);
                let ended = async move { drop(lifetime::end(&mut observed).await) };
                (self.node.directory.workload(record.id).directory().to_owned(), Some(ended))
            }
            Target::Gone(paths) => (paths.directory().to_owned(), None),
        };
        let query = LogQuery { follow: query.follow && ended.is_some(), ..query };
        let reader =
            LogReader::open(&directory, query).map_err(|error| Problem::fault("log_unreadable", &error))?;
        let ended = ended.map(|ended| Box::pin(ended) as Pin<Box<dyn Future<Output = ()> + Send>>);
        Ok(Output { reader, ended })
    }
}

impl Output {
    /// The next entry; `None` when all was read that will ever be.
    pub(super) async fn next(&mut self) -> Option<Result<LogEntry, Status>> {
        loop {
            let Some(ended) = &mut self.ended else { return self.read().await };
            tokio::select! {
                biased;
                entry = self.reader.next() => return flatten(entry),
                () = ended => {
                    self.ended = None;
                    self.reader.finish();
                }
            }
        }
    }

    async fn read(&mut self) -> Option<Result<LogEntry, Status>> {
        flatten(self.reader.next().await)
    }
}

fn flatten(
    entry: Result<Option<LogEntry>, hypercore_runtime::log::LogError>,
) -> Option<Result<LogEntry, Status>> {
    entry.map_err(|error| Problem::fault("log_unreadable", &error).into()).transpose()
}

/// One entry as the API writes it. What the shim says about the log goes to standard error.
pub(super) fn entry(entry: LogEntry) -> v1::LogEntry {
    let stream = match entry.stream {
        LogStream::Stdout => v1::OutputStream::Stdout,
        LogStream::Stderr | LogStream::System => v1::OutputStream::Stderr,
    };
    v1::LogEntry { ts_ms: Timestamp::unix_ms(entry.ts), stream: stream.into(), data: entry.data }
}
