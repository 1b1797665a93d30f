//! `run`: what is asked of the agent, how a failed start is told, and what is left behind then.

use std::process::Stdio;

use hypercore_api::v1::{self, WorkloadStatus, progress_event::Event};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    fake::{Fake, ID, Script, Session, reached, workload},
    program::{collect, finish, hypercore, until},
};

fn running() -> Script {
    let mut pending = workload(WorkloadStatus::Pending, 0);
    pending.started_at_ms = None;
    let layer = v1::PullProgress { layer: "sha256:00".into(), received: 1, total: 2, step: 1 };
    let progress = vec![
        reached(pending),
        v1::ProgressEvent { event: Some(Event::Pull(layer)) },
        reached(workload(WorkloadStatus::Running, 0)),
    ];
    Script { progress, workloads: vec![workload(WorkloadStatus::Running, 0)], ..Script::default() }
}

fn failing(code: &str, message: &str, hint: &str) -> Script {
    let mut failed = workload(WorkloadStatus::Failed, 0);
    failed.started_at_ms = None;
    (failed.reason_code, failed.reason, failed.reason_hint) = (code.into(), message.into(), hint.into());
    Script { progress: vec![reached(failed.clone())], workloads: vec![failed], ..Script::default() }
}

#[test]
fn attached_it_speaks_with_the_workloads_voice_and_ends_with_its_code() {
    let ended = Fake::start(running()).run(&["run", "web"]).expect(3);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("out\n", "err\n"));
}

#[test]
fn detached_it_prints_the_full_id_alone() {
    let fake = Fake::start(running());
    let ended = fake.run(&["run", "-d", "web"]).expect(0);
    assert_eq!((ended.stdout, ended.stderr), (format!("{ID}\n"), String::new()));
    assert_eq!(fake.run(&["run", "-d", "--json", "web"]).expect(0).json()["id"], ID);
}

#[test]
fn flags_may_come_from_the_environment() {
    let fake = Fake::start(running());
    let mut command = fake.hypercore();
    command.args(["run", "web"]).env("HYPERCORE_RUN_DETACH", "1").env("HYPERCORE_RUN_NAME", "chosen");
    finish(&mut command, b"").expect(0);
    assert!(fake.calls()[0].contains("name: \"chosen\""), "{:?}", fake.calls());
}

#[test]
fn a_missing_image_is_one_line_with_a_hint() {
    let message = "the image docker.io/library/nosuch:latest is not on the registry docker.io";
    let fake = Fake::start(failing("image_not_found", message, "check the name and the tag"));
    for (arguments, code) in [(&["run", "nosuch"][..], 125), (&["run", "-d", "nosuch"], 3)] {
        let ended = fake.run(arguments).expect(code);
        assert_eq!(ended.stderr, format!("error: {message}\nhint: check the name and the tag\n"));
        assert_eq!(ended.stdout, "");
    }
}

#[test]
fn failures_of_the_command_have_the_shells_codes() {
    for (code, attached, detached) in [
        ("command_not_found", 127, 1),
        ("not_executable", 126, 1),
        ("port_taken", 125, 6),
        ("no_command", 125, 1),
    ] {
        let fake = Fake::start(failing(code, "it can't be run", ""));
        assert_eq!(fake.run(&["run", "web"]).expect(attached).stderr, "error: it can't be run\n");
        fake.run(&["run", "-d", "web"]).expect(detached);
    }
}

#[test]
fn what_never_ran_leaves_its_name_free() {
    let fake = Fake::start(failing("image_not_found", "not there", ""));
    fake.run(&["run", "--name", "web", "nosuch"]).expect(125);
    assert!(fake.calls().last().unwrap().starts_with("remove RemoveRequest"), "{:?}", fake.calls());
}

#[test]
fn mistakes_are_found_before_the_agent_is_asked() {
    let ended = finish(hypercore().args(["run", "-w", "tmp", "-e", "=x", "web"]), b"").expect(2);
    assert!(ended.stderr.contains("`tmp`") && ended.stderr.contains("`=x`"), "{ended:?}");
}

#[test]
fn a_terminal_can_not_be_made_of_a_pipe() {
    let ended = Fake::start(running()).run(&["run", "-it", "web"]).expect(2);
    assert!(ended.stderr.starts_with("error: standard input is not a terminal\nhint: "), "{ended:?}");
}

#[test]
fn input_is_piped_through_to_its_end() {
    let fake = Fake::start(Script { session: Session::Echo, ..running() });
    let input = "line\n".repeat(100_000);
    let ended = finish(fake.hypercore().args(["run", "-i", "web"]), input.as_bytes()).expect(7);
    assert_eq!(ended.stdout.len(), input.len());
    assert!(ended.stdout == input, "the bytes came back changed");
}

#[test]
fn without_i_no_input_is_sent() {
    let fake = Fake::start(running());
    finish(fake.hypercore().args(["run", "web"]), b"secret").expect(3);
    let attach = fake.calls().into_iter().find(|call| call.starts_with("attach AttachStart")).unwrap();
    assert!(attach.contains("from_start: true, stdin: false"), "{attach}");
}

#[test]
fn giving_up_on_a_long_start_leaves_nothing_behind() {
    let mut pulling = workload(WorkloadStatus::Pulling, 0);
    pulling.started_at_ms = None;
    let script =
        || Script { progress: vec![reached(pulling.clone())], is_start_endless: true, ..Script::default() };
    for arguments in [&["run", "web"][..], &["run", "-d", "web"]] {
        let fake = Fake::start(script());
        let mut command = fake.hypercore();
        let child =
            command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = child.spawn().unwrap();
        let asked =
            |part: &str| until(|| fake.calls().iter().any(|call| call.starts_with(part)).then_some(()));
        asked("progress").expect("the start is watched");
        kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
        let ended = collect(child).expect(130);
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", ""));
        asked("remove RemoveRequest").expect("it is removed");
    }
}
