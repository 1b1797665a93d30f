//! Signals, broken agents and readers that go away, without a terminal.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Stdio},
};

use hypercore_api::v1::WorkloadStatus;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    fake::{Fake, ID, Script, Session, reached, workload},
    program::{collect, wait},
};

fn fake(session: Session) -> Fake {
    let running = workload(WorkloadStatus::Running, 0);
    Fake::start(Script {
        session,
        progress: vec![reached(running.clone())],
        workloads: vec![running],
        ..Script::default()
    })
}

/// Starts the program and waits until the process it talks to has said that it is ready.
fn begin(fake: &Fake, arguments: &[&str]) -> Child {
    let mut child = fake
        .hypercore()
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    child
}

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
}

#[test]
fn signals_go_to_the_workload_and_its_end_is_ours() {
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let fake = fake(Session::Sleep);
        let mut child = begin(&fake, &["run", "web"]);
        send(&child, signal);
        assert_eq!(wait(&mut child), Some(code));
        assert!(fake.calls().iter().any(|call| call.starts_with("kill KillRequest")), "{:?}", fake.calls());
    }
}

#[test]
fn signals_reach_the_process_of_an_exec_through_its_session() {
    let fake = fake(Session::Sleep);
    let mut child = begin(&fake, &["exec", "web", "sleep", "100"]);
    send(&child, Signal::SIGTERM);
    assert_eq!(wait(&mut child), Some(143));
    assert!(!fake.calls().iter().any(|call| call.starts_with("kill")), "{:?}", fake.calls());
}

#[test]
fn a_workload_that_ignores_signals_can_be_left_with_the_third() {
    let fake = fake(Session::Ignore);
    let child = begin(&fake, &["run", "web"]);
    for count in 1..=3 {
        send(&child, Signal::SIGINT);
        if count < 3 {
            let killed = || fake.calls().iter().filter(|call| call.starts_with("kill")).count();
            crate::program::until(|| (killed() == count).then_some(())).expect("the signal was passed on");
        }
    }
    let ended = collect(child).expect(130);
    let id = &ID[..12];
    assert_eq!(
        ended.stderr,
        format!("workload {id} runs on: `hypercore attach {id}` joins it, `hypercore stop {id}` ends it\n")
    );
}

#[test]
fn who_only_watches_ends_the_watching_and_not_the_workload() {
    let fake = fake(Session::Sleep);
    let child = begin(&fake, &["attach", "--no-stdin", "web"]);
    send(&child, Signal::SIGINT);
    assert_eq!(collect(child).expect(130).stderr, "");
    assert!(!fake.calls().iter().any(|call| call.starts_with("kill")), "{:?}", fake.calls());
}

#[test]
fn an_agent_that_breaks_is_125_with_its_reason() {
    let fake = fake(Session::Break);
    let ended = fake.run(&["run", "web"]).expect(125);
    assert_eq!(
        (ended.stdout.as_str(), ended.stderr.as_str()),
        ("ready\n", "error: the shim of the workload has vanished\n")
    );
}

#[test]
fn an_exec_ends_with_its_commands_code() {
    let fake = fake(Session::Speak);
    let ended = fake.run(&["exec", "-e", "A=b", "-u", "1", "-w", "/tmp", "web", "--", "ls", "-l"]).expect(3);
    assert_eq!(ended.stdout, "out\n");
    let call = fake.calls().into_iter().find(|call| call.starts_with("exec ExecStart")).unwrap();
    assert!(call.contains(r#"argv: ["ls", "-l"], env: ["A=b"], user: "1", workdir: "/tmp""#), "{call}");
}

#[test]
fn attach_ends_with_0_whatever_the_workloads_code() {
    let fake = fake(Session::Speak);
    assert_eq!(fake.run(&["attach", "web"]).expect(0).stdout, "out\n");
    assert!(fake.run(&["attach", "nosuch"]).expect(3).stderr.starts_with("error: there is no workload"));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let fake = fake(Session::Echo);
    let mut child = fake
        .hypercore()
        .args(["run", "-i", "web"])
        .stdin(std::fs::File::open("/dev/zero").unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut some = [0; 4096];
    child.stdout.take().unwrap().read_exact(&mut some).unwrap();
    assert_eq!(wait(&mut child), Some(0));
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!(told, "");
    // Its output went into the log for ever, had nobody told it.
    assert!(fake.calls().iter().any(|call| call.starts_with("stop")), "{:?}", fake.calls());
}
