//! What a keeper writes beside a workload: `outcome.json` for how it ended for good, `surroundings.json` for what it
//! was given, `spec.json` for what was asked for, `attempt` for which attempt the directory belongs to.
//! It refuses to be the first to say how a process ended: that is the shim's `exit.json`.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use hypercore_cluster::state::{Desired, WorkloadRecord};
use hypercore_model::{
    Attempt, Digest, ExitStatus, NodeId, Timestamp, WorkloadId, WorkloadSpec, WorkloadStatus,
};
use hypercore_runtime::network::Attachment;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{board::Observed, directory::WorkloadPaths, failure::Failure, machines::RunBy};

/// How a workload ended for good.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Outcome {
    /// Which attempt ended so. It says nothing about any other.
    pub(super) attempt: Attempt,
    /// `stopped`, `failed` or `lost`.
    pub(super) status: WorkloadStatus,
    pub(super) finished_at: Timestamp,
    /// Why, where there is more to say than the exit status does.
    pub(super) failure: Option<Failure>,
    /// How its last process ended; `None` when nobody knows, or none ever ran.
    #[serde(default)]
    pub(super) exit: Option<ExitStatus>,
    /// When its last run had started.
    #[serde(default)]
    pub(super) started_at: Option<Timestamp>,
    /// How often it was started again.
    #[serde(default)]
    pub(super) restarts: u32,
    /// What it was made of.
    #[serde(default)]
    pub(super) image_digest: Option<Digest>,
    /// When it was made; `None` in what earlier releases wrote.
    #[serde(default)]
    pub(super) created_at: Option<Timestamp>,
}

impl Outcome {
    /// Lets everybody see the end.
    pub(super) fn show(&self, observed: &mut Observed) {
        observed.status = self.status;
        observed.leave(self.finished_at);
        observed.started_at = self.started_at;
        observed.exit = self.exit;
        observed.failure.clone_from(&self.failure);
        observed.restarts = self.restarts;
        observed.due = None;
        observed.image_digest = self.image_digest.or(observed.image_digest);
    }
}

/// Writes `outcome.json`, and answers whether it is there. When it isn't (a full disk), the outcome is known until the
/// agent restarts, and then found out anew.
pub(super) fn write(paths: &WorkloadPaths, outcome: &Outcome) -> bool {
    let result = fs::create_dir_all(paths.directory()).and_then(|()| write_json(&paths.outcome(), outcome));
    if let Err(error) = &result {
        tracing::warn!(path = %paths.outcome().display(), %error, "could not write the outcome");
    }
    result.is_ok()
}

/// Writes what was asked for, for people who look and for those who ask when the workload is gone.
pub(super) fn write_spec(paths: &WorkloadPaths, spec: &WorkloadSpec) {
    if paths.spec().exists() {
        return;
    }
    let result =
        fs::create_dir_all(paths.directory()).and_then(|()| write_json(&paths.spec(), &recorded(spec)));
    if let Err(error) = result {
        tracing::warn!(path = %paths.spec().display(), %error, "could not write a record");
    }
}

/// What is written of a spec. The environment may hold secrets: it is in the sealed state and in memory, and nowhere
/// else on the disk.
pub(super) fn recorded(spec: &WorkloadSpec) -> WorkloadSpec {
    WorkloadSpec { env: BTreeMap::new(), ..spec.clone() }
}

/// How this attempt ended, if it did so without an exit status. An earlier attempt's outcome counts for nothing.
pub(super) fn read(paths: &WorkloadPaths, attempt: Attempt) -> Option<Outcome> {
    read_json(&paths.outcome()).filter(|outcome: &Outcome| outcome.attempt == attempt)
}

/// What is known of a removed workload: what it was, and what was seen of it last. `None` when that was not recorded.
pub(crate) fn read_last(
    id: WorkloadId,
    node: NodeId,
    paths: &WorkloadPaths,
) -> Option<(WorkloadRecord, Observed)> {
    let outcome: Outcome = read_json(&paths.outcome())?;
    let mut observed = Observed::pending();
    outcome.show(&mut observed);
    let record = WorkloadRecord {
        id,
        spec: read_json(&paths.spec())?,
        node,
        attempt: outcome.attempt,
        desired: Desired::Running,
        author: node,
        created_at: outcome.created_at.or(outcome.started_at).unwrap_or(outcome.finished_at),
        ended: true,
        expired: false,
    };
    Some((record, observed))
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
    /// What runs its machine, of a microVM.
    #[serde(default)]
    pub(crate) run_by: Option<RunBy>,
}

/// Writes what the workload was given.
pub(super) fn write_surroundings(paths: &WorkloadPaths, surroundings: &Surroundings) -> io::Result<()> {
    write_json(&paths.surroundings(), surroundings)
}

/// What the workload was given, while it has it.
pub(crate) fn read_surroundings(paths: &WorkloadPaths) -> Option<Surroundings> {
    read_json(&paths.surroundings())
}

/// Removes records that say nothing true any more.
pub(super) fn forget(records: &[PathBuf]) {
    for path in records {
        if let Err(error) = fs::remove_file(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "could not remove a record");
        }
    }
}

/// Writes JSON beside the target and renames it over, so that a reader sees all of it or none.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let beside = path.with_extension("tmp");
    // A spec has the environment in it, which may be a secret.
    let mut options = fs::File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(&beside)?.write_all(&serde_json::to_vec(value)?)?;
    fs::rename(&beside, path)
}

pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
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

    fn failed() -> Outcome {
        let failure = Failure {
            code: "image_not_found".into(),
            message: "no such image".into(),
            hint: "look again".into(),
        };
        Outcome {
            attempt: Attempt::FIRST,
            status: WorkloadStatus::Failed,
            finished_at: Timestamp::from_unix_ms(7),
            failure: Some(failure),
            exit: None,
            started_at: None,
            restarts: 2,
            image_digest: None,
            created_at: Some(Timestamp::from_unix_ms(5)),
        }
    }

    #[test]
    fn an_outcome_is_read_back_as_it_was_written() {
        let (_root, paths) = place();
        // No attempt was begun here: the image could not be had, so nothing else was written.
        assert!(write(&paths, &failed()));
        let mut observed = Observed::pending();
        read(&paths, Attempt::FIRST).unwrap().show(&mut observed);
        assert_eq!((observed.status, observed.restarts), (WorkloadStatus::Failed, 2));
        assert_eq!(
            (observed.finished_at, observed.failure),
            (Some(Timestamp::from_unix_ms(7)), failed().failure)
        );
        assert!(!paths.outcome().with_extension("tmp").exists());
    }

    #[test]
    fn an_outcome_says_nothing_about_a_later_attempt() {
        let (_root, paths) = place();
        write(&paths, &failed());
        assert!(read(&paths, Attempt::FIRST.next()).is_none());
    }

    #[test]
    fn what_is_gone_can_still_be_shown() {
        let (_root, paths) = place();
        let (id, node) = (WorkloadId::from_bytes([1; 16]), NodeId::from_bytes([2; 32]));
        assert!(read_last(id, node, &paths).is_none());
        let spec = WorkloadSpec::of_image("web:1".parse().unwrap());
        write(&paths, &failed());
        write_spec(&paths, &spec);
        let (record, observed) = read_last(id, node, &paths).unwrap();
        assert_eq!((record.spec, record.created_at), (spec, Timestamp::from_unix_ms(5)));
        assert_eq!(observed.status, WorkloadStatus::Failed);
    }

    #[test]
    fn the_outcomes_of_earlier_releases_are_read() {
        let (_root, paths) = place();
        fs::create_dir_all(paths.directory()).unwrap();
        let old = r#"{"attempt":1,"status":"lost","finished_at":7,"failure":null}"#;
        fs::write(paths.outcome(), old).unwrap();
        assert_eq!(read(&paths, Attempt::FIRST).unwrap().status, WorkloadStatus::Lost);
    }

    #[test]
    fn what_is_missing_or_malformed_is_nothing() {
        let (_root, paths) = place();
        assert!(read_attempt(&paths).is_none() && read_surroundings(&paths).is_none());
        fs::create_dir_all(paths.directory()).unwrap();
        fs::write(paths.outcome(), "{").unwrap();
        assert!(read(&paths, Attempt::FIRST).is_none());
        forget(&[paths.surroundings(), paths.outcome()]);
        assert!(!paths.outcome().exists());
    }
}
