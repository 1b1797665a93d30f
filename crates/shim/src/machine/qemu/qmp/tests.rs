//! Against a QEMU that says whatever the test wants it to.

use std::{
    io::{BufRead, BufReader, Write},
    os::{fd::AsFd, unix::net::UnixListener},
};

use super::*;

const GREETING: &str = r#"{"QMP": {"version": {}, "capabilities": []}}"#;
const DONE: &str = r#"{"return": {}, "id": 1}"#;

/// Greets and does as it is told with `says`, one line for each that it reads. It hangs up when it has said all.
fn qemu(says: &[&str]) -> Result<Qmp, QmpError> {
    let says: Vec<String> = says.iter().map(|line| format!("{line}\n")).collect();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("qmp");
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        for line in says {
            // The other end may refuse what came before, and be gone.
            let _ = stream.write_all(line.as_bytes());
            let _ = lines.next();
        }
    });
    Qmp::connect(&path, Instant::now() + Duration::from_secs(10))
}

#[test]
fn an_answer_comes_past_events() {
    let stop = "{\"event\": \"STOP\", \"timestamp\": {}}\n{\"return\": {\"status\": \"paused\"}, \"id\": 2}";
    let mut qmp = qemu(&[GREETING, DONE, stop]).unwrap();
    let answer = qmp.execute("query-status", &json!({})).unwrap();
    assert_eq!(answer, json!({ "status": "paused" }));
    assert!(matches!(qmp.execute("cont", &json!({})), Err(QmpError::Closed | QmpError::Broken(_))));
}

#[test]
fn an_event_is_waited_for_past_others() {
    let events = r#"{"return": {}, "id": 2}
{"event": "RESUME"}
{"event": "MIGRATION", "data": {"status": "setup"}}
{"event": "MIGRATION", "data": {"status": "completed"}}"#;
    let mut qmp = qemu(&[GREETING, DONE, events]).unwrap();
    qmp.execute("migrate", &json!({})).unwrap();
    let status = qmp
        .wait_for("MIGRATION", |data| data["status"].as_str().filter(|s| *s != "setup").map(str::to_owned));
    assert_eq!(status.unwrap(), "completed");
}

#[test]
fn a_refusal_is_told_in_qemus_words() {
    let no = r#"{"error": {"class": "GenericError", "desc": "no such thing"}, "id": 2}"#;
    let mut qmp = qemu(&[GREETING, DONE, no]).unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();
    let refused = qmp.give("state", file.as_fd());
    assert!(matches!(refused, Err(QmpError::Refused(text)) if text == "no such thing"));
}

#[test]
fn what_is_no_qmp_is_refused() {
    for greeting in ["", "[]", "\u{1}\u{2}", "{\"QMP\": ", "7", "SSH-2.0"] {
        assert!(matches!(qemu(&[greeting]), Err(QmpError::Garbled(_))), "{greeting}");
    }
    for (greeting, answer) in
        [(DONE, ""), ("{}", ""), (GREETING, "{}"), (GREETING, r#"{"return": {}, "id": 7}"#)]
    {
        assert!(matches!(qemu(&[greeting, answer]), Err(QmpError::Unexpected(_))), "{greeting} {answer}");
    }
    let answered = qemu(&[GREETING, r#"{"return": {}, "id": "1"}"#]);
    assert!(matches!(answered, Err(QmpError::Garbled(_))), "{answered:?}");
}

#[test]
fn a_line_without_end_is_not_kept() {
    let endless = " ".repeat(LINE_LEN_MAX + 2 * READ_LEN_MAX);
    assert!(matches!(qemu(&[&endless]), Err(QmpError::TooLong)));
}

#[test]
fn a_silent_qemu_has_a_deadline() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("qmp");
    let _listener = UnixListener::bind(&path).unwrap();
    let silent = Qmp::connect(&path, Instant::now() + Duration::from_millis(50));
    assert!(matches!(silent, Err(QmpError::Late)), "{silent:?}");
}
