//! Engines that don't keep their promise. They are scripts here: the real one can't be made to fail like that.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use hypercore_model::{Attempt, ExitStatus, WorkloadId};
use hypercore_runtime::sandbox::{LaunchError, LaunchRequest, LogLimits, Sandbox, Sandboxes};

use super::deadline;

/// A place with an engine that runs `script` for each create, and does nothing to delete.
struct Place(tempfile::TempDir);

impl Place {
    fn with_engine(script: &str) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.path("workload")).unwrap();
        let engine = place.path("engine.sh");
        // The number of the report's descriptor comes last. By its path, since a shell needn't know numbers above 9.
        let begin = "#!/bin/sh\n[ \"$1\" = create ] || exit 0\nfor fd; do :; done\nreport=/proc/self/fd/$fd";
        let script = format!("{begin}\nhere={}\necho > $here/began\n{script}\n", place.0.path().display());
        fs::write(&engine, script).unwrap();
        fs::set_permissions(&engine, fs::Permissions::from_mode(0o700)).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    async fn launch(&self) -> Result<Sandbox, LaunchError> {
        let shim = Path::new(env!("CARGO_BIN_EXE_hypercore-shim"));
        let sandboxes = Sandboxes::new(shim.to_owned(), self.path("engine.sh"), self.path("run"));
        let request = LaunchRequest {
            id: WorkloadId::from_entropy([7; 16]),
            attempt: Attempt::FIRST,
            directory: self.path("workload"),
            engine: hypercore_runtime::sandbox::Engine::Container,
            tty: false,
            stdin_open: false,
            oom_events: None,
            start_time_max: std::time::Duration::from_secs(60),
            log: LogLimits::default(),
        };
        deadline(sandboxes.launch(request)).await
    }
}

#[tokio::test]
async fn an_engine_that_says_nothing_sensible_is_a_failed_launch() {
    for script in ["exit 3", "exit 0", "echo nonsense > $report", "kill -9 $$"] {
        let place = Place::with_engine(script);
        match place.launch().await.unwrap_err() {
            LaunchError::Refused(fault) => {
                assert_eq!(fault.message, "the engine ended without a report", "{script}")
            }
            other => panic!("{script}: {other:?}"),
        }
        assert!(place.path("began").exists(), "{script} was not run");
    }
}

#[tokio::test]
async fn a_process_that_ends_before_it_is_reported_has_an_end_all_the_same() {
    // An orphan of the engine is the shim's child at once. It ends then, and the report waits until it is reaped.
    let script = "(sh -c 'until [ -e '$here/go' ]; do :; done; exit 5' & echo $! > $here/pid); : > $here/go
        read pid < $here/pid; while kill -0 $pid; do :; done; echo '{\"pid\":'$pid'}' > $report";
    let place = Place::with_engine(script);
    let sandbox = place.launch().await.unwrap();
    assert_eq!(deadline(sandbox.exited()).await.unwrap().exit, ExitStatus::Code(5));
}

#[tokio::test]
async fn a_missing_engine_is_named_as_that() {
    let place = Place::with_engine("");
    fs::remove_file(place.path("engine.sh")).unwrap();
    let error = place.launch().await.unwrap_err();
    assert!(error.to_string().contains("the engine can't be started"), "{error}");
}
