//! A workload's output as callers read it: its log, followed until the workload has ended in whatever way.

use std::{future::Future, pin::Pin};

use hypercore_api::v1;
use hypercore_model::{RestartPolicy, Timestamp};
use hypercore_runtime::log::{LogEntry, LogQuery, LogReader, LogStream};
use tokio::sync::watch;
use tonic::Status;

use super::{
    Handlers, lifetime,
    problem::Problem,
    target::{self, Target},
};
use crate::board::Observed;

/// Up to where output is read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Until {
    /// The workload's last end.
    LastEnd,
    /// The end of the run that follows so many restarts.
    RunEnd {
        /// How often it had been started again.
        restarts: u32,
    },
}

/// A reader that also ends when the workload did so without leaving a record.
pub(super) struct Output {
    reader: LogReader,
    /// Completes when there is nothing more to wait for, with the time after which nothing is wanted; `None` afterwards.
    ended: Option<Pin<Box<dyn Future<Output = Option<Timestamp>> + Send>>>,
    last: Option<Timestamp>,
}

impl Handlers {
    /// The output of a workload.
    pub(super) fn output(&self, target: &Target, query: LogQuery, until: Until) -> Result<Output, Problem> {
        let (directory, record) = match target {
            Target::Known(record) => {
                (self.node.directory.workload(record.id).directory().to_owned(), Some(record))
            }
            Target::Gone(_, paths) => (paths.directory().to_owned(), None),
        };
        let query = LogQuery {
            follow: query.follow && record.is_some(),
            outlives_exit: record.is_some_and(|record| record.spec.restart != RestartPolicy::No),
            ..query
        };
        let reader =
            LogReader::open(&directory, query).map_err(|error| Problem::fault("log_unreadable", &error))?;
        let observed = record.map(|record| target::observe(&self.node, record.id));
        let ended = observed.map(|observed| Box::pin(ended(observed, until)) as Pin<Box<_>>);
        Ok(Output { reader, ended, last: None })
    }
}

async fn ended(mut observed: watch::Receiver<Observed>, until: Until) -> Option<Timestamp> {
    match until {
        Until::LastEnd => drop(lifetime::end(&mut observed).await),
        Until::RunEnd { restarts } => {
            let seen = lifetime::run_end(&mut observed, restarts).await;
            if !seen.status.is_final() {
                return seen.last_run.map(|last| last.finished_at);
            }
        }
    }
    None
}

impl Output {
    /// The next entry; `None` when all was read that will ever be.
    pub(super) async fn next(&mut self) -> Option<Result<LogEntry, Status>> {
        loop {
            let Some(ended) = &mut self.ended else { return self.read().await };
            tokio::select! {
                // A reader that always finds something must not keep the end from being noticed.
                biased;
                last = ended => {
                    (self.ended, self.last) = (None, last);
                    self.reader.finish();
                }
                entry = self.reader.next() => return flatten(entry),
            }
        }
    }

    async fn read(&mut self) -> Option<Result<LogEntry, Status>> {
        let entry = flatten(self.reader.next().await)?;
        // What the next run wrote meanwhile is not of this one.
        let is_later = entry.as_ref().is_ok_and(|entry| self.last.is_some_and(|last| entry.ts > last));
        (!is_later).then_some(entry)
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
