//! An older shim under a newer agent: what a workload that outlived an upgrade is still good for, and how it is told
//! what it isn't. The shim is frozen in bytes ([`hypercore_fixtures::frozen_shim`]); a failure here is a broken upgrade.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{path::PathBuf, time::Duration};

use hypercore_fixtures::{FrozenShim, FrozenWorkload, wait_until};
use hypercore_model::{Attempt, ExitStatus, WorkloadId};
use hypercore_runtime::{
    log::{LogQuery, LogReader, LogStream},
    sandbox::{Adoption, ExecError, ExecEvent, ExecRequest, ExecSession, RequestError, Sandbox, Sandboxes},
};

/// Longest wait for the workload's shell.
const TIME_MAX: Duration = Duration::from_secs(30);

/// Answers each line of its input, and ends by itself at a SIGTERM.
const SCRIPT: &str = "trap 'echo bye >&2; exit 7' TERM; echo up; while read line; do echo \"got $line\"; done; \
                      while :; do sleep 0.05; done";

/// A workload of an earlier release, and the sandboxes of this one.
struct Skew {
    scratch: tempfile::TempDir,
    id: WorkloadId,
    sandboxes: Sandboxes,
    _shim: FrozenShim,
}

impl Skew {
    fn start(script: &str) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let id = WorkloadId::from_bytes([0x31; 16]);
        std::fs::create_dir_all(scratch.path().join("run/shim")).unwrap();
        let directory = scratch.path().join("workload");
        let wanted = FrozenWorkload { id: id.to_string(), attempt: 3, directory, script: script.to_owned() };
        let socket = scratch.path().join(format!("run/shim/{id}.sock"));
        let shim = FrozenShim::start(&socket, wanted).unwrap();
        // The engine's part in the end of a sandbox is of today, and has nothing to delete here.
        let engine = PathBuf::from("/bin/true");
        let sandboxes = Sandboxes::new("/nonexistent/shim".into(), engine, scratch.path().join("run"));
        Self { scratch, id, sandboxes, _shim: shim }
    }

    fn directory(&self) -> PathBuf {
        self.scratch.path().join("workload")
    }

    async fn adopt(&self) -> Sandbox {
        match self.sandboxes.adopt(self.id, &self.directory()).await.unwrap() {
            Adoption::Running(sandbox) => sandbox,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until the log has this line.
    fn wait_for(&self, line: &str) {
        let log = self.directory().join("log/00000001.jsonl");
        let has_come = || std::fs::read_to_string(&log).is_ok_and(|text| text.contains(line)).then_some(());
        assert!(wait_until(TIME_MAX, has_come).is_some(), "{line:?} never came");
    }
}

async fn output(mut session: ExecSession) -> (String, ExitStatus) {
    let mut text = Vec::new();
    loop {
        match session.events.next().await.unwrap().expect("the end comes before nothing") {
            ExecEvent::Stdout(data) | ExecEvent::Stderr(data) => text.extend(data),
            ExecEvent::Exit(status) => return (String::from_utf8(text).unwrap(), status),
        }
    }
}

fn shell(script: &str) -> ExecRequest {
    let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
    ExecRequest { argv, env: vec!["K=V".to_owned()], ..ExecRequest::default() }
}

#[tokio::test]
async fn a_workload_of_the_first_release_is_adopted_and_controlled() {
    let skew = Skew::start(SCRIPT);
    skew.wait_for("up");
    let sandbox = skew.adopt().await;
    assert_eq!((sandbox.id(), sandbox.attempt(), sandbox.has_tty()), (skew.id, Attempt::new(3), false));
    assert_eq!(skew.sandboxes.scan().unwrap(), [skew.id]);

    let (said, status) = output(sandbox.exec(shell("echo $K; exit 4")).await.unwrap()).await;
    assert_eq!((said.as_str(), status), ("V\n", ExitStatus::Code(4)));
    let input = sandbox.open_stdin().await.unwrap();
    input.write(b"hello\n").await.unwrap();
    skew.wait_for("got hello");

    sandbox.signal(nix::libc::SIGTERM).await.unwrap();
    input.close().await.unwrap();
    let record = sandbox.exited().await.unwrap();
    assert_eq!(record.exit, ExitStatus::Code(7));
    // What it left on disk is read as well.
    let is_gone = || (!skew.scratch.path().join(format!("run/shim/{}.sock", skew.id)).exists()).then_some(());
    assert!(wait_until(TIME_MAX, is_gone).is_some());
    match skew.sandboxes.adopt(skew.id, &skew.directory()).await.unwrap() {
        Adoption::Ended(left) => assert_eq!(left, record),
        other => panic!("{other:?}"),
    }
    let mut log = LogReader::open(&skew.directory(), LogQuery::default()).unwrap();
    let mut entries = Vec::new();
    while let Some(entry) = log.next().await.unwrap() {
        entries.push((entry.stream, String::from_utf8(entry.data).unwrap()));
    }
    let out = |text: &str| (LogStream::Stdout, text.to_owned());
    assert_eq!(entries, [out("up\n"), out("got hello\n"), (LogStream::Stderr, "bye\n".to_owned())]);
}

#[tokio::test]
async fn an_execution_under_an_old_shim_takes_input_and_signals() {
    let skew = Skew::start(SCRIPT);
    let sandbox = skew.adopt().await;
    let request = ExecRequest { stdin: true, ..shell("cat; echo end") };
    let session = sandbox.exec(request).await.unwrap();
    session.input.write(b"through\n").await.unwrap();
    session.input.close().await.unwrap();
    assert_eq!(output(session).await, ("through\nend\n".to_owned(), ExitStatus::Code(0)));

    let session = sandbox.exec(shell("exec sleep 1000")).await.unwrap();
    session.input.signal(nix::libc::SIGKILL).await.unwrap();
    assert_eq!(output(session).await.1, ExitStatus::Signal(9));
    let missing = ExecRequest { argv: vec!["/nonexistent/program".to_owned()], ..ExecRequest::default() };
    assert!(matches!(sandbox.exec(missing).await, Err(ExecError::CommandNotFound(_))));
}

#[tokio::test]
async fn what_only_newer_shims_know_is_refused_in_words_and_harms_nothing() {
    let skew = Skew::start(SCRIPT);
    let sandbox = skew.adopt().await;
    match sandbox.release().await {
        Err(RequestError::TooOld(too_old)) => {
            assert_eq!((too_old.needs, too_old.speaks), (2, 1));
            assert!(too_old.to_string().contains("restart the workload"), "{too_old}");
        }
        other => panic!("{other:?}"),
    }
    let (said, _) = output(sandbox.exec(shell("echo still here")).await.unwrap()).await;
    assert_eq!(said, "still here\n");
}

#[tokio::test]
async fn a_sandbox_of_an_old_shim_is_destroyed_like_any() {
    let skew = Skew::start(SCRIPT);
    let sandbox = skew.adopt().await;
    skew.sandboxes.destroy(skew.id).await.unwrap();
    assert!(!std::path::Path::new(&format!("/proc/{}", sandbox.pid())).exists());
    assert_eq!(skew.sandboxes.scan().unwrap(), []);
    // A script that needed its input never to end is none of today's business: it was killed.
    assert_eq!(sandbox.exited().await.unwrap().exit, ExitStatus::Signal(9));
}
