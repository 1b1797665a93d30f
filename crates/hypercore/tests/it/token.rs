//! `token`: the secret alone on stdout, once; what callers may do in the promised shape.

use hypercore_api::v1;

use crate::fake::{Fake, SECRET, Script};

const DAY_MS: u64 = 24 * 3600 * 1000;

#[test]
fn a_new_token_is_alone_on_stdout() {
    let fake = Fake::start(Script::default());
    let ended = fake.run(&["token", "create", "--name", "ci", "--scope", "run", "--ttl", "1h"]).expect(0);
    assert_eq!(ended.stdout, format!("{SECRET}\n"));
    assert!(ended.stderr.contains("not shown again") && !ended.stderr.contains("secret"), "{ended:?}");
    let json =
        fake.run(&["token", "create", "--json", "--tenant", "acme", "--ttl", "never"]).expect(0).json();
    assert_eq!((&json["secret"], &json["tenant"]), (&SECRET.into(), &"acme".into()));
    assert_eq!((&json["scopes"][0], &json["expires_at"]), (&"read".into(), &serde_json::Value::Null));
    let asked = |name: &str, scope: &str, tenant: &str, ttl_ms| v1::TokenCreateRequest {
        name: name.into(),
        scopes: vec![scope.into()],
        tenant: tenant.into(),
        ttl_ms,
    };
    let calls = [asked("ci", "run", "", 3_600_000), asked("", "read", "acme", 0)];
    assert_eq!(fake.calls(), calls.map(|call| format!("token create {call:?}")));
}

#[test]
fn what_no_token_can_be_is_refused_before_anybody_is_asked() {
    let fake = Fake::start(Script::default());
    for wrong in [&["--scope", "all"][..], &["--ttl", "5"], &["--name", "No Name"], &["--tenant", "-"]] {
        fake.run(&[&["token", "create"], wrong].concat()).expect(2);
    }
    fake.run(&["token", "revoke"]).expect(2);
    assert!(fake.calls().is_empty(), "{:?}", fake.calls());
}

#[test]
fn tokens_are_listed_and_revoked_one_by_one() {
    let token = |name: &str, tenant: &str, expires_at_ms| v1::Token {
        id: "01".repeat(8),
        name: name.into(),
        scopes: vec!["read".into(), "run".into()],
        tenant: tenant.into(),
        created_at_ms: DAY_MS,
        expires_at_ms,
    };
    let tokens = vec![token("ci", "", None), token("", "acme", Some(2 * DAY_MS))];
    let fake = Fake::start(Script { tokens, ..Script::default() });
    let table = fake.run(&["token", "ls"]).expect(0).stdout;
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[1].contains("ci") && lines[1].contains("read,run") && lines[1].contains("all"), "{table}");
    assert!(
        lines[1].ends_with("never") && lines[2].contains("acme") && lines[2].contains("expired"),
        "{table}"
    );
    let id = "01".repeat(8);
    assert_eq!(fake.run(&["token", "ls", "-q"]).expect(0).stdout, format!("{id}\n{id}\n"));
    let json = fake.run(&["token", "ls", "--json"]).expect(0).json();
    assert_eq!((&json[1]["tenant"], &json[1]["name"]), (&"acme".into(), &serde_json::Value::Null));
    assert!(json[0].get("secret").is_none());
    assert_eq!(fake.run(&["token", "revoke", "ci", "01"]).expect(0).stdout, "ci\n01\n");
    // They are asked for at once, and answered in the order that was typed.
    let calls: std::collections::BTreeSet<String> = fake.calls()[3..].iter().cloned().collect();
    assert_eq!(calls, ["token revoke 01".to_owned(), "token revoke ci".to_owned()].into());
}
