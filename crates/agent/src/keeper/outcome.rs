//! What a keeper writes beside a workload: `outcome.json` for an end without an exit status, `surroundings.json`
//! for what it was given, `attempt` for which attempt the directory belongs to.
//! It refuses to write exit statuses: those are the shim's.

use std::{fs, io, path::Path};

use hypercore_model::{Attempt, Digest, Timestamp, WorkloadStatus};
use hypercore_runtime::network::Attachment;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{directory::WorkloadPaths, failure::Failure};

/// How a workload ended when there is no exit status to tell it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Outcome {
    /// Which attempt ended so. It says nothing about any other.
    pub(super) attempt: Attempt,
    /// `stopped` (before it ever ran), `failed` or `lost`.
    pub(super) status: WorkloadStatus,
    pub(super) finished_at: Timestamp,
    pub(super) failure: Option<Failure>,
}

impl Outcome {
    pub(super) const fn stopped_unstarted(attempt: Attempt, finished_at: Timestamp) -> Self {
        Self { attempt, status: WorkloadStatus::Stopped, finished_at, failure: None }
    }

    pub(super) const fn failed(attempt: Attempt, failure: Failure, finished_at: Timestamp) -> Self {
        Self { attempt, status: WorkloadStatus::Failed, finished_at, failure: Some(failure) }
    }

    pub(super) const fn lost(attempt: Attempt, failure: Failure, finished_at: Timestamp) -> Self {
        Self { attempt, status: WorkloadStatus::Lost, finished_at, failure: Some(failure) }
    }
}

/// Writes `outcome.json`. When that fails (a full disk), the outcome is known until the agent restarts, and then
/// found out anew.
pub(super) fn write(paths: &WorkloadPaths, outcome: &Outcome) {
    let result = fs::create_dir_all(paths.directory()).and_then(|()| write_json(&paths.outcome(), outcome));
    if let Err(error) = result {
        tracing::warn!(path = %paths.outcome().display(), %error, "could not write the outcome");
    }
}

/// How this attempt ended, if it did so without an exit status. An earlier attempt's outcome counts for nothing.
pub(super) fn read(paths: &WorkloadPaths, attempt: Attempt) -> Option<Outcome> {
    read_json(&paths.outcome()).filter(|outcome: &Outcome| outcome.attempt == attempt)
}

/// How a removed workload ended: its status then, and why if that was recorded.
pub(crate) fn read_last(paths: &WorkloadPaths) -> Option<(WorkloadStatus, Option<Failure>)> {
    read_json(&paths.outcome()).map(|outcome: Outcome| (outcome.status, outcome.failure))
}

/// Writes which attempt this directory belongs to.
pub(super) fn write_attempt(paths: &WorkloadPaths, attempt: Attempt) -> io::Result<()> {
    write_json(&paths.attempt(), &attempt)
}

/// Which attempt this directory belongs to, if any was begun.
pub(super) fn read_attempt(paths: &WorkloadPaths) -> Option<Attempt> {
    read_json(&paths.attempt())
}

/// What a workload was given when it was launched, as `surroundings.json` keeps it for an agent that adopts it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Surroundings {
    /// Its place on the network: nobody else gets its address while this stands.
    pub(crate) attachment: Attachment,
    /// What it was made of; its tag may mean something else by now.
    pub(crate) image_digest: Digest,
    /// The signal that asks it to end.
    pub(crate) stop_signal: i32,
}

/// Writes what the workload was given.
pub(super) fn write_surroundings(paths: &WorkloadPaths, surroundings: &Surroundings) -> io::Result<()> {
    write_json(&paths.surroundings(), surroundings)
}

/// What the workload was given, while it has it.
pub(crate) fn read_surroundings(paths: &WorkloadPaths) -> Option<Surroundings> {
    read_json(&paths.surroundings())
}

/// Removes the record: the workload has nothing any more.
pub(super) fn forget_surroundings(paths: &WorkloadPaths) {
    if let Err(error) = fs::remove_file(paths.surroundings())
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %paths.surroundings().display(), %error, "could not remove a record");
    }
}

/// Writes JSON beside the target and renames it over, so that a reader sees all of it or none.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let beside = path.with_extension("tmp");
    fs::write(&beside, serde_json::to_vec(value)?)?;
    fs::rename(&beside, path)
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "could not read a record");
            return None;
        }
    };
    serde_json::from_slice(&bytes)
        .inspect_err(
            |error| tracing::warn!(path = %path.display(), %error, "a record is malformed and is ignored"),
        )
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, WorkloadPaths) {
        let root = tempfile::tempdir().unwrap();
        let paths = WorkloadPaths::at(root.path().join("w"));
        (root, paths)
    }

    fn failure() -> Failure {
        Failure { code: "image_not_found".into(), message: "no such image".into(), hint: "look again".into() }
    }

    #[test]
    fn an_outcome_is_read_back_as_it_was_written() {
        let (_root, paths) = place();
        let (attempt, at) = (Attempt::FIRST, Timestamp::from_unix_ms(7));
        // No attempt was begun here: the image could not be had, so nothing else was written.
        write(&paths, &Outcome::failed(attempt, failure(), at));
        let outcome = read(&paths, attempt).unwrap();
        assert_eq!((outcome.status, outcome.finished_at), (WorkloadStatus::Failed, at));
        assert_eq!(outcome.failure, Some(failure()));
        assert_eq!(read_last(&paths), Some((WorkloadStatus::Failed, Some(failure()))));
        assert!(!paths.outcome().with_extension("tmp").exists());
    }

    #[test]
    fn an_outcome_says_nothing_about_a_later_attempt() {
        let (_root, paths) = place();
        write(&paths, &Outcome::lost(Attempt::FIRST, failure(), Timestamp::from_unix_ms(7)));
        assert!(read(&paths, Attempt::FIRST.next()).is_none());
    }

    #[test]
    fn what_is_missing_or_malformed_is_nothing() {
        let (_root, paths) = place();
        assert!(read_attempt(&paths).is_none() && read_surroundings(&paths).is_none());
        fs::create_dir_all(paths.directory()).unwrap();
        fs::write(paths.outcome(), "{").unwrap();
        assert!(read(&paths, Attempt::FIRST).is_none());
        forget_surroundings(&paths);
    }
}
