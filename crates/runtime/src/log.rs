//! Reading what a workload wrote: entries from its shim's log files, from a chosen point on, followed if wanted.
//! It refuses to write: the files are the shim's. Damaged lines, which a crash of the machine can leave, are skipped.
//!
//! ```text
//!   workloads/<id>/log/00000001.jsonl     {"ts":"2026-11-21T08:00:00.123Z","stream":"stdout","data":"hello\n"}
//!                      00000002.jsonl     {"ts":...,"stream":"stderr","data":"/w==","encoding":"base64"}
//!   workloads/<id>/exit.json              once it exists, nothing more is written
//! ```
//!
//! Files are numbered and never renamed: the shim appends to the highest number and removes the lowest, so a reader
//! that is at the end of a file finds what follows by counting.

mod entry;
mod segment;
mod tail;
mod watch;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use hypercore_model::{ExitRecord, Timestamp};

pub use entry::{LogEntry, LogStream};

use segment::Segments;
use watch::Watch;

/// Name of the record that a shim leaves in its workload's directory.
const EXIT_RECORD: &str = "exit.json";

/// Which entries to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogQuery {
    /// Only the last so many lines of what was written up to now.
    pub tail: Option<usize>,
    /// Only entries written at or after this time.
    pub since: Option<Timestamp>,
    /// Go on with what is written from now on, until the workload has ended.
    pub follow: bool,
    /// Everything is wanted from the first byte on: that files were removed before the reading began is told too.
    pub is_whole: bool,
    /// The workload may be started again, so that `exit.json` is not the end of what is followed:
    /// [`LogReader::finish`] is.
    pub outlives_exit: bool,
}

/// Why a log can't be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The workload's directory, or a file in it, can't be read.
    #[error("the log in {} can't be read", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The kernel doesn't watch the workload's directory, as when there is none.
    #[error("the log in {} can't be followed", path.display())]
    Watch {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// One reader of one workload's log.
#[derive(Debug)]
pub struct LogReader {
    workload_directory: PathBuf,
    since: Option<Timestamp>,
    segments: Segments,
    /// Lines to leave out at the beginning of the first entry.
    lines_to_skip: usize,
    /// Read, and to be handed out after what had to be said before it.
    pending: Option<LogEntry>,
    /// Present while following.
    watch: Option<Watch>,
    outlives_exit: bool,
    is_finished: bool,
    /// Whether the reader has said what the shim could not log.
    is_loss_told: bool,
}

impl LogReader {
    /// A reader of the log in a workload's directory. A workload that hasn't written yet has an empty log.
    ///
    /// # Errors
    /// [`LogError`] when the files can't be read, or not be followed.
    pub fn open(workload_directory: &Path, query: LogQuery) -> Result<Self, LogError> {
        let log_directory = workload_directory.join("log");
        // Watching begins before reading does, so that no change falls in between.
        let watch = query.follow.then(|| Watch::new(workload_directory, &log_directory)).transpose()?;
        let failed = |source| LogError::Read { path: log_directory.clone(), source };
        let (segments, lines_to_skip) = match query.tail {
            Some(lines) => tail::last_lines(&log_directory, lines).map_err(failed)?,
            None => (Segments::from_start(log_directory.clone(), query.is_whole), 0),
        };
        let workload_directory = workload_directory.to_owned();
        Ok(Self {
            workload_directory,
            since: query.since,
            segments,
            lines_to_skip,
            pending: None,
            watch,
            outlives_exit: query.outlives_exit,
            is_finished: false,
            is_loss_told: false,
        })
    }

    /// The next entry; `None` when all was read and, if followed, the workload has ended. Cancel safe.
    ///
    /// Reads at most a piece of one file at a time, which is usually still in memory, without leaving the thread.
    ///
    /// # Errors
    /// [`LogError`] when a file can't be read.
    pub async fn next(&mut self) -> Result<Option<LogEntry>, LogError> {
        loop {
            // Whether more can come is asked before looking for it: what was written before the end is then found.
            let may_grow = self.may_grow();
            if let Some(entry) = self.next_written()? {
                return Ok(Some(entry));
            }
            match &mut self.watch {
                Some(watch) if may_grow => {
                    watch.changed().await.map_err(|source| LogError::Watch {
                        path: self.workload_directory.clone(),
                        source,
                    })?;
                }
                _ => return Ok(self.told_of_loss()),
            }
        }
    }

    /// Ends following: [`Self::next`] hands out what was written by now, and then `None`. For callers that learned in
    /// another way that the workload ended, such as that its shim is gone.
    pub fn finish(&mut self) {
        self.is_finished = true;
    }

    fn may_grow(&self) -> bool {
        !self.is_finished
            && !self.watch.as_ref().is_none_or(Watch::is_log_removed)
            && self.workload_directory.exists()
            && (self.outlives_exit || !self.workload_directory.join(EXIT_RECORD).exists())
    }

    /// What the shim had no room to log by the workload's end, told once.
    fn told_of_loss(&mut self) -> Option<LogEntry> {
        if std::mem::replace(&mut self.is_loss_told, true) {
            return None;
        }
        let json = fs::read(self.workload_directory.join(EXIT_RECORD)).ok()?;
        let record: ExitRecord = serde_json::from_slice(&json).ok()?;
        let bytes = Some(record.lost_output_bytes).filter(|bytes| *bytes > 0)?;
        let text = format!("output was lost here: {bytes} bytes could not be written to the log\n");
        Some(LogEntry { ts: record.finished_at, stream: LogStream::System, data: text.into_bytes() })
    }

    fn next_written(&mut self) -> Result<Option<LogEntry>, LogError> {
        if let Some(entry) = self.pending.take() {
            return Ok(Some(entry));
        }
        loop {
            let failed = |source| LogError::Read { path: self.workload_directory.clone(), source };
            let line = self.segments.next_line().map_err(failed)?;
            let Some(line) = line else { return Ok(None) };
            let Some(mut entry) = LogEntry::parse(line) else { continue };
            entry.skip_lines(std::mem::take(&mut self.lines_to_skip));
            if self.since.is_some_and(|since| entry.ts < since) || entry.data.is_empty() {
                continue;
            }
            let Some(told) = told_of_missed(self.segments.take_missed(), entry.ts) else {
                return Ok(Some(entry));
            };
            self.pending = Some(entry);
            return Ok(Some(told));
        }
    }
}

/// What the reader says in place of files that were removed before it came to them. Silence would make what is left
/// look whole.
fn told_of_missed(files: u64, ts: Timestamp) -> Option<LogEntry> {
    let text = format!(
        "output was lost here: it was written faster than it was read, and {files} full log files were removed\n"
    );
    (files > 0).then(|| LogEntry { ts, stream: LogStream::System, data: text.into_bytes() })
}

#[cfg(test)]
mod tests;
