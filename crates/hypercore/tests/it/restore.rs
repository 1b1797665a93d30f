//! `snapshot`, `restore`, `fork`: what is typed reaches the agent, and what it answers is printed.

use hypercore_api::{
    ApiError, ErrorKind,
    v1::{self, WorkloadStatus},
};

use crate::fake::{Fake, ID, Script, reached, workload};

/// An agent with a workload `web`, whose restored workloads and clones end up like this.
fn agent(status: WorkloadStatus) -> Fake {
    let mut state = workload(status, 1_700_000_000_000);
    if status == WorkloadStatus::Failed {
        state.started_at_ms = None;
        state.reason = "the snapshot ready can't be used: its file state is missing".into();
        state.reason_code = "snapshot_broken".into();
    }
    Fake::start(Script {
        workloads: vec![state.clone()],
        progress: vec![reached(state)],
        ..Script::default()
    })
}

#[test]
fn a_snapshot_is_told_by_its_name_or_in_full() {
    let fake = agent(WorkloadStatus::Running);
    let ended = fake.run(&["snapshot", "web", "ready"]).expect(0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("ready\n", "5MiB on the disk\n"));
    assert!(fake.calls()[0].contains(r#"id: "web", name: "ready""#), "{:?}", fake.calls());
    let shown = fake.run(&["snapshot", "web", "ready", "--json"]).expect(0).json();
    assert_eq!((&shown["name"], &shown["size_bytes"]), (&"ready".into(), &(5 << 20).into()));
    for bad in ["Ready", "../x", "a.b"] {
        fake.run(&["snapshot", "web", bad]).expect(2);
    }
}

#[test]
fn a_restored_workload_is_told_by_its_id() {
    let fake = agent(WorkloadStatus::Running);
    let ended =
        fake.run(&["restore", "ready", "--name", "second", "-p", "8081:80", "-p", "53/udp"]).expect(0);
    assert_eq!(ended.stdout, format!("{ID}\n"));
    let asked = &fake.calls()[0];
    for part in [r#"snapshot: "ready""#, r#"name: "second""#, "8081:80/tcp", "53/udp", "no_ports: false"] {
        assert!(asked.contains(part), "{part} is not in {asked}");
    }
    fake.run(&["restore", "ready", "--no-ports"]).expect(0);
    assert!(fake.calls().iter().any(|call| call.contains("no_ports: true")));
    fake.run(&["restore", "ready", "--no-ports", "-p", "80"]).expect(2);
}

#[test]
fn what_can_not_go_on_is_an_error_and_gone() {
    let fake = agent(WorkloadStatus::Failed);
    let ended = fake.run(&["restore", "ready"]).expect(1);
    assert!(ended.stdout.is_empty() && ended.stderr.contains("state is missing"), "{ended:?}");
    assert!(fake.calls().iter().any(|call| call.starts_with("remove")), "{:?}", fake.calls());
    let clones = fake.run(&["fork", "web", "-n", "2"]).expect(1);
    assert_eq!((clones.stdout.as_str(), clones.stderr.matches("error:").count()), ("", 2), "{clones:?}");
}

#[test]
fn each_clone_is_told_by_its_id() {
    let fake = agent(WorkloadStatus::Running);
    assert_eq!(fake.run(&["fork", "web", "-n", "2"]).expect(0).stdout, format!("{ID}\n{ID}\n"));
    assert!(fake.calls()[0].contains("count: 2"), "{:?}", fake.calls());
    let shown = fake.run(&["fork", "web", "--json"]).expect(0).json();
    assert_eq!(shown[0]["id"], ID);
    for bad in ["0", "65", "many"] {
        fake.run(&["fork", "web", "-n", bad]).expect(2);
    }
}

#[test]
fn the_list_shows_what_is_wrong_with_one() {
    let whole = v1::Snapshot {
        name: "ready".into(),
        workload: ID.into(),
        workload_name: "web".into(),
        image: "docker.io/library/web:1".into(),
        created_at_ms: 1_700_000_000_000,
        size_bytes: 5 << 20,
        engine: "qemu".into(),
        engine_version: "7.2.22".into(),
        ..Default::default()
    };
    let broken = v1::Snapshot {
        name: "copy".into(),
        problem: "its file state is missing".into(),
        ..Default::default()
    };
    let fake = Fake::start(Script { snapshots: vec![whole, broken], ..Script::default() });
    let printed = fake.run(&["snapshots", "ls"]).expect(0).stdout;
    let lines: Vec<_> = printed.lines().collect();
    assert!(
        lines[1].starts_with("ready ") && lines[1].contains("5MiB") && lines[1].ends_with("qemu 7.2.22"),
        "{printed}"
    );
    assert!(lines[2].starts_with("copy ") && lines[2].ends_with("its file state is missing"), "{printed}");
    assert_eq!(fake.run(&["snapshots", "ls", "-q"]).expect(0).stdout, "ready\ncopy\n");
    let shown = fake.run(&["snapshots", "ls", "--verify", "--json"]).expect(0).json();
    assert_eq!((&shown[0]["problem"], &shown[1]["engine"]), (&serde_json::Value::Null, &"".into()));
    assert!(fake.calls().iter().any(|call| call.contains("verify: true")), "{:?}", fake.calls());
    assert_eq!(fake.run(&["snapshots", "rm", "ready", "copy"]).expect(0).stdout, "ready\ncopy\n");
}

#[test]
fn a_refusal_has_its_code() {
    let refusal = ApiError::new(ErrorKind::NotFound, "snapshot_not_found", "there is no snapshot gone");
    let fake = Fake::start(Script { refusal: Some(refusal), ..Script::default() });
    for command in [&["restore", "gone"][..], &["snapshots", "rm", "gone"]] {
        assert!(fake.run(command).expect(3).stderr.contains("there is no snapshot gone"));
    }
}
