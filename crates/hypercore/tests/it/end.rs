//! `stop`, `kill`, `rm`, `wait`: what is done to several workloads, and how it ends when one of them isn't there.

use hypercore_api::{ApiError, ErrorKind, v1::WorkloadStatus};
use hypercore_model::ExitStatus;

use crate::fake::{Fake, ID, Script, workload};

fn with_web() -> Fake {
    let mut web = workload(WorkloadStatus::Stopped, 0);
    web.exit = Some(ExitStatus::Signal(9).into());
    Fake::start(Script { workloads: vec![web], ..Script::default() })
}

#[test]
fn targets_are_echoed_as_they_were_named() {
    let fake = with_web();
    assert_eq!(fake.run(&["stop", "-t", "3", "-s", "INT", "web"]).expect(0).stdout, "web\n");
    assert_eq!(fake.run(&["kill", "1b4e"]).expect(0).stdout, "1b4e\n");
    assert_eq!(fake.run(&["rm", "-f", "web", "1b4e"]).expect(0).stdout, "web\n1b4e\n");
    let calls = fake.calls().join("\n");
    for part in [
        "stop VmStopRequest { id: \"web\", grace_period_ms: Some(3000), signal: 2 }",
        "kill KillRequest { id: \"1b4e\", signal: 9 }",
        "remove RemoveRequest { id: \"web\", force: true }",
    ] {
        assert!(calls.contains(part), "{part} in {calls}");
    }
    assert_eq!(fake.run(&["rm", "--json", "web"]).expect(0).json(), serde_json::json!([{ "id": ID }]));
}

#[test]
fn one_missing_target_does_not_keep_the_others_from_being_done() {
    let ended = with_web().run(&["rm", "nosuch", "web"]).expect(3);
    assert_eq!(ended.stdout, "web\n");
    assert_eq!(
        ended.stderr,
        "error: there is no workload `nosuch`\nhint: `hypercore ps -a` lists every workload\n"
    );
}

#[test]
fn wait_prints_the_code_and_ends_with_it() {
    let fake = with_web();
    assert_eq!(fake.run(&["wait", "web"]).expect(137).stdout, "137\n");
    fake.run(&["wait", "nosuch"]).expect(125);
}

#[test]
fn every_class_of_failure_has_its_exit_code() {
    for (kind, code) in [
        (ErrorKind::Failed, 1),
        (ErrorKind::Usage, 2),
        (ErrorKind::NotFound, 3),
        (ErrorKind::Refused, 4),
        (ErrorKind::Unavailable, 5),
        (ErrorKind::Conflict, 6),
    ] {
        let refusal = Some(ApiError::new(kind, "some_code", "it did not work").with_hint("try otherwise"));
        let fake = Fake::start(Script { refusal, ..Script::default() });
        let ended = fake.run(&["rm", "web"]).expect(code);
        assert_eq!(ended.stderr, "error: it did not work\nhint: try otherwise\n");
        let ended = fake.run(&["ps", "--json"]).expect(code);
        assert!(ended.stderr.contains("\"code\":\"some_code\""), "{ended:?}");
        fake.run(&["run", "-d", "web"]).expect(code);
        fake.run(&["exec", "web", "ls"]).expect(if code == 2 { 2 } else { 125 });
    }
}
