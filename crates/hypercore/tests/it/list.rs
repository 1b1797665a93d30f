//! `ps`, `inspect`, `image`, `logs`: data on stdout, in the promised shapes.

use std::time::{SystemTime, UNIX_EPOCH};

use hypercore_api::v1::{self, WorkloadStatus};
use hypercore_model::ExitStatus;

use crate::fake::{Fake, ID, Script, workload};

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap()
}

fn with(workloads: Vec<v1::WorkloadState>) -> Fake {
    Fake::start(Script { workloads, ..Script::default() })
}

#[test]
fn ps_prints_a_table_for_people() {
    let five_minutes_ago = now_ms() - 5 * 60 * 1000 - 500;
    let mut failed = workload(WorkloadStatus::Failed, five_minutes_ago - 1000);
    failed.started_at_ms = None;
    failed.finished_at_ms = Some(five_minutes_ago);
    failed.reason_code = "image_not_found".into();
    let mut ended = workload(WorkloadStatus::Stopped, five_minutes_ago - 2000);
    ended.exit = Some(ExitStatus::OutOfMemory.into());
    ended.finished_at_ms = Some(five_minutes_ago);
    ended.ports.clear();
    let fake = with(vec![ended, failed, workload(WorkloadStatus::Running, five_minutes_ago)]);
    let printed = fake.run(&["ps", "-a"]).expect(0).stdout;
    let columns: Vec<Vec<&str>> = printed
        .lines()
        .map(|line| line.split("   ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect();
    assert_eq!(
        columns,
        [
            vec!["ID", "NAME", "IMAGE", "STATUS", "PORTS", "CREATED"],
            vec!["1b4e28ba-2fa", "web", "web:1", "running 5 minutes", "8080:80/tcp", "5 minutes ago"],
            vec![
                "1b4e28ba-2fa",
                "web",
                "web:1",
                "failed (image_not_found) 5 minutes ago",
                "8080:80/tcp",
                "5 minutes ago"
            ],
            vec![
                "1b4e28ba-2fa",
                "web",
                "web:1",
                "stopped (137, out of memory) 5 minutes ago",
                "5 minutes ago"
            ],
        ]
    );
    assert_eq!(fake.calls(), ["list ListRequest { all: true }"]);
}

#[test]
fn ps_json_has_exactly_the_promised_fields_in_order() {
    let mut ended = workload(WorkloadStatus::Stopped, 1_000);
    ended.exit = Some(ExitStatus::Signal(15).into());
    ended.finished_at_ms = Some(3_000);
    let printed = with(vec![ended]).run(&["ps", "-a", "--json"]).expect(0).stdout;
    let node = "07".repeat(32);
    assert_eq!(
        printed,
        format!(
            r#"[
  {{
    "id": "{ID}",
    "name": "web",
    "image": "docker.io/library/web:1",
    "status": "stopped",
    "isolation": "container",
    "node": "{node}",
    "created_at": "1970-01-01T00:00:01.000Z",
    "started_at": "1970-01-01T00:00:01.020Z",
    "finished_at": "1970-01-01T00:00:03.000Z",
    "exit_code": 143,
    "reason": null,
    "restarts": 0,
    "ports": [
      "8080:80/tcp"
    ],
    "url": null,
    "labels": {{
      "tier": "front"
    }}
  }}
]
"#
        )
    );
}

#[test]
fn ps_without_workloads_is_still_an_array_and_a_head() {
    let fake = with(Vec::new());
    assert_eq!(fake.run(&["ps", "--json"]).expect(0).stdout, "[]\n");
    assert!(fake.run(&["ps"]).expect(0).stdout.starts_with("ID "));
}

#[test]
fn ps_quiet_prints_full_ids_alone() {
    let fake = with(vec![workload(WorkloadStatus::Running, 0)]);
    assert_eq!(fake.run(&["ps", "-q"]).expect(0).stdout, format!("{ID}\n"));
}

#[test]
fn ps_speaks_yaml() {
    let printed =
        with(vec![workload(WorkloadStatus::Running, 0)]).run(&["ps", "-o", "yaml"]).expect(0).stdout;
    assert!(printed.contains("status: running\n") && printed.contains("name: web\n"), "{printed}");
}

#[test]
fn inspect_prints_an_array_and_tells_what_is_missing() {
    let fake = with(vec![workload(WorkloadStatus::Running, 0)]);
    let found = fake.run(&["inspect", "web"]).expect(0).json();
    assert_eq!((&found[0]["env"]["MODE"], &found[0]["name"]), (&"test".into(), &"web".into()));
    let ended = fake.run(&["inspect", "web", "nosuch"]).expect(3);
    assert_eq!(ended.json().as_array().unwrap().len(), 1);
    assert_eq!(
        ended.stderr,
        "error: there is no workload `nosuch`\nhint: `hypercore ps -a` lists every workload\n"
    );
}

#[test]
fn images_are_listed_pulled_imported_and_removed() {
    let digest = format!("sha256:{}", "ab".repeat(32));
    let reference = "docker.io/library/web:1".to_owned();
    let image = v1::Image { reference, digest: digest.clone(), size_bytes: 3 << 20, created_at_ms: 1_000 };
    let fake = Fake::start(Script { images: vec![image], ..Script::default() });
    let listed = fake.run(&["image", "ls", "--json"]).expect(0).stdout;
    let expected = format!(
        "[\n  {{\n    \"reference\": \"docker.io/library/web:1\",\n    \"digest\": \"{digest}\",\n    \
         \"size_bytes\": 3145728,\n    \"created_at\": \"1970-01-01T00:00:01.000Z\"\n  }}\n]\n"
    );
    assert_eq!(listed, expected);
    let table = fake.run(&["image", "ls"]).expect(0).stdout;
    assert!(table.lines().nth(1).unwrap().starts_with("web:1   abababababab   3MiB "), "{table}");
    assert_eq!(fake.run(&["image", "pull", "web:1"]).expect(0).stdout, "docker.io/library/web:1\n");
    assert_eq!(
        fake.run(&["image", "import", "a.tar", "--as", "a:1"]).expect(0).stdout,
        "docker.io/library/a:1\n"
    );
    let removed = fake.run(&["image", "rm", "web:1"]).expect(0);
    assert_eq!(
        (removed.stdout.as_str(), removed.stderr.as_str()),
        ("docker.io/library/web:1\n", "web:1: 1MiB freed\n")
    );
    let here = std::env::current_dir().unwrap().join("a.tar");
    assert!(fake.calls().contains(&format!("image import {} docker.io/library/a:1", here.display())));
}

#[test]
fn logs_keep_their_streams_apart() {
    let entry = |stream, data: &[u8]| v1::LogEntry { ts_ms: 1_000, stream, data: data.to_vec() };
    let fake =
        Fake::start(Script { logs: vec![entry(0, b"out\n"), entry(1, b"err\n")], ..Script::default() });
    let ended = fake.run(&["logs", "--tail", "10", "--since", "1970-01-01T00:00:01Z", "-f", "web"]).expect(0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("out\n", "err\n"));
    assert_eq!(
        fake.calls(),
        ["logs LogsRequest { id: \"web\", follow: true, tail: Some(10), since_ms: Some(1000) }"]
    );
    let lines = fake.run(&["logs", "--json", "web"]).expect(0).stdout;
    assert_eq!(lines.lines().count(), 2);
    let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(first["data"], "out\n");
}
