//! Lives of workloads: start, end, signals, and what is known afterwards.

use hypercore_fixtures::skip_without_root;
use hypercore_model::{Attempt, ExitStatus};
use hypercore_runtime::{
    log::LogStream,
    sandbox::{Adoption, LaunchError, RequestError},
};

use super::{Held, deadline, held};

#[tokio::test]
async fn a_workload_runs_ends_and_leaves_its_record_and_log() {
    if skip_without_root("a_workload_runs_ends_and_leaves_its_record_and_log") {
        return;
    }
    let held = Held::shell("echo out; echo err >&2; exit 7");
    let sandbox = held.launch().await;
    assert_eq!((sandbox.id(), sandbox.attempt()), (held.id(), Attempt::new(3)));
    let record = deadline(sandbox.exited()).await.unwrap();
    assert_eq!(record.exit, ExitStatus::Code(7));
    assert!(record.started_at <= record.finished_at && sandbox.started_at() == record.started_at);
    held.wait_for_shims_end();
    // Asked again, by whoever comes later.
    assert_eq!(sandbox.exited().await, Ok(record));
    let adoption = held.sandboxes.adopt(held.id(), &held.directory()).await.unwrap();
    assert!(matches!(adoption, Adoption::Ended(ended) if ended == record), "{adoption:?}");
    assert_eq!(held.logged(LogStream::Stdout).await, "out\n");
    assert_eq!(held.logged(LogStream::Stderr).await, "err\n");
    assert!(held.sandboxes.scan().unwrap().is_empty());
}

#[tokio::test]
async fn a_program_that_cannot_be_run_is_told_apart() {
    if skip_without_root("a_program_that_cannot_be_run_is_told_apart") {
        return;
    }
    let mut held = Held::shell("");
    held.machine.spec.command = vec!["no-such-program".into()];
    let missing = held.try_launch().await.unwrap_err();
    assert!(
        matches!(&missing, LaunchError::CommandNotFound(message) if message.contains("no-such-program")),
        "{missing:?}"
    );
    held.wait_for_shims_end();

    held.machine.spec.command = vec!["/etc/passwd".into()];
    let refused = held.try_launch().await.unwrap_err();
    assert!(matches!(refused, LaunchError::NotExecutable(_)), "{refused:?}");
    held.wait_for_shims_end();
    let adoption = held.sandboxes.adopt(held.id(), &held.directory()).await.unwrap();
    assert!(matches!(adoption, Adoption::Gone), "{adoption:?}");
}

#[tokio::test]
async fn a_shim_that_cannot_begin_says_in_what() {
    if skip_without_root("a_shim_that_cannot_begin_says_in_what") {
        return;
    }
    let held = Held::shell("true");
    std::fs::write(held.directory().join("log"), "in the way").unwrap();
    let error = held.try_launch().await.unwrap_err();
    assert!(error.to_string().contains("the log can't be opened"), "{error}");
    held.wait_for_shims_end();
}

#[tokio::test]
async fn a_workload_is_launched_once() {
    if skip_without_root("a_workload_is_launched_once") {
        return;
    }
    let held = Held::shell("exec sleep 1000");
    held.launch().await;
    assert_eq!(held.sandboxes.scan().unwrap(), [held.id()]);
    let twice = held.try_launch().await.unwrap_err();
    assert!(matches!(twice, LaunchError::AlreadyLaunched), "{twice:?}");
}

#[tokio::test]
async fn signals_reach_the_first_process() {
    if skip_without_root("signals_reach_the_first_process") {
        return;
    }
    let held = Held::shell("trap 'echo polite; exit 3' TERM; echo ready; while :; do sleep 0.01; done");
    let sandbox = held.launch().await;
    held.wait_for_output("ready").await;
    sandbox.signal(15).await.unwrap();
    assert_eq!(deadline(sandbox.exited()).await.unwrap().exit, ExitStatus::Code(3));
    assert_eq!(held.logged(LogStream::Stdout).await, "ready\npolite\n");
    held.wait_for_shims_end();
    let gone = sandbox.signal(15).await.unwrap_err();
    assert!(matches!(gone, RequestError::Gone), "{gone:?}");
}

#[tokio::test]
async fn a_kill_is_told_as_the_signal_it_was() {
    if skip_without_root("a_kill_is_told_as_the_signal_it_was") {
        return;
    }
    let held = Held::shell("exec sleep 1000");
    let sandbox = held.launch().await;
    let (waits, kills) = tokio::join!(deadline(sandbox.exited()), sandbox.signal(9));
    kills.unwrap();
    assert_eq!(waits.unwrap().exit, ExitStatus::Signal(9));
}

#[tokio::test]
async fn a_lack_of_memory_is_told_as_that() {
    if skip_without_root("a_lack_of_memory_is_told_as_that") {
        return;
    }
    let mut held = Held::shell("exec tail /dev/zero");
    held.machine.spec.memory = Some("16MiB".parse().unwrap());
    let sandbox = held.launch().await;
    assert_eq!(deadline(sandbox.exited()).await.unwrap().exit, ExitStatus::OutOfMemory);
}

#[tokio::test]
async fn destroying_ends_whatever_there_is_and_may_be_repeated() {
    if skip_without_root("destroying_ends_whatever_there_is_and_may_be_repeated") {
        return;
    }
    let held = Held::shell("exec sleep 1000");
    let sandbox = held.launch().await;
    for _ in 0..2 {
        deadline(held.sandboxes.destroy(held.id())).await.unwrap();
        assert!(!held::is_alive(sandbox.pid()));
        assert!(held.sandboxes.scan().unwrap().is_empty());
    }
    assert!(held.machine.cgroups.processes(held.id()).unwrap().is_empty());
    assert_eq!(sandbox.exited().await.unwrap().exit, ExitStatus::Signal(9));
}

#[tokio::test]
async fn the_first_process_inherits_nothing_of_the_shim() {
    if skip_without_root("the_first_process_inherits_nothing_of_the_shim") {
        return;
    }
    let script = "grep SigBlk /proc/self/status; umask; ls /proc/self/fd; cat /proc/self/oom_score_adj";
    let held = Held::shell(script);
    deadline(held.launch().await.exited()).await.unwrap();
    let said = held.logged(LogStream::Stdout).await;
    // The fourth descriptor is that of the directory which `ls` reads.
    let expected = "SigBlk:\t0000000000000000\n0022\n0\n1\n2\n3\n0\n";
    assert_eq!(said, expected);
}
