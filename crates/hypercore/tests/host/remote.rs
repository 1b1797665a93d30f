//! The API from elsewhere: TLS, tokens, scopes, tenants, and those who mean harm.

mod given;
mod hostile;
mod pages;
mod raw;

use std::{net::SocketAddr, process::Command, time::Duration};

use hypercore_fixtures::{skip_without_root, wait_until};

use crate::{
    node::{Node, free_address},
    program::{Ended, finish, hypercore},
};

const EXPIRY_TIME_MAX: Duration = Duration::from_secs(30);

/// A node that serves the API on TCP too.
struct Remote {
    node: Node,
    address: SocketAddr,
}

impl Remote {
    fn start() -> Self {
        let (mut node, address) = (Node::prepare(), free_address());
        node.set("HYPERCORE_UP_GRPC_BIND_ADDR", address.to_string());
        node.start_agent();
        node.import_busybox();
        Self { node, address }
    }

    /// Makes a token on the node itself.
    #[track_caller]
    fn token(&self, arguments: &[&str]) -> String {
        let ended = self.node.run(&[&["token", "create"], arguments].concat()).expect(0);
        assert!(ended.stderr.contains("not shown again"), "{ended:?}");
        ended.stdout.trim().to_owned()
    }

    /// `hypercore` as somebody elsewhere calls it.
    fn command(&self, token: &str, arguments: &[&str]) -> Command {
        let mut command = hypercore();
        command.env("HYPERCORE_API", format!("https://{}", self.address)).env("HYPERCORE_TOKEN", token);
        command.args(arguments);
        command
    }

    fn run(&self, token: &str, arguments: &[&str]) -> Ended {
        finish(&mut self.command(token, arguments), b"")
    }
}

#[test]
fn a_token_is_all_that_a_caller_from_elsewhere_needs() {
    if skip_without_root("a_token_is_all_that_a_caller_from_elsewhere_needs") {
        return;
    }
    let mut remote = Remote::start();
    let token = remote.token(&["--name", "laptop", "--scope", "run"]);
    let script = "echo hello; read line; echo got $line";
    let run = ["run", "-i", "--name", "job", "busybox", "--", "sh", "-c", script];
    let ended = finish(&mut remote.command(&token, &run), b"something\n").expect(0);
    assert_eq!(ended.stdout, "hello\ngot something\n");
    assert_eq!(remote.run(&token, &["logs", "job"]).expect(0).stdout, ended.stdout);
    remote.run(&token, &["rm", "job"]).expect(0);
    let listed = remote.node.run(&["token", "ls", "--json"]).expect(0);
    assert_eq!(listed.json()[0]["name"], "laptop");
    assert_eq!(listed.json()[0]["scopes"][0], "run");
    let secret = token.split('.').nth(2).unwrap();
    assert!(!listed.stdout.contains(secret));

    // The port and the token outlive the agent; what it logged of the calls has no secret in it.
    remote.node.kill_agent();
    remote.node.start_agent();
    remote.run(&token, &["ps"]).expect(0);
    let log = remote.node.agent_log();
    assert!(log.contains("/hypercore.v1.ClusterService/Spawn") && log.contains(&token[4..20]), "{log}");
    assert!(!log.contains(secret));
    remote.node.finish();
}

#[test]
fn strangers_are_told_what_is_missing() {
    if skip_without_root("strangers_are_told_what_is_missing") {
        return;
    }
    let remote = Remote::start();
    let token = remote.token(&["--name", "good"]);
    let authority = remote.node.path("data/ca.pem");
    let with_file = |token: Option<&str>| {
        let mut command = hypercore();
        command
            .args(["--api", &format!("https://{}", remote.address), "--json", "ps", "--api-ca"])
            .arg(&authority);
        command.envs(token.map(|token| ("HYPERCORE_TOKEN", token)));
        finish(&mut command, b"")
    };
    with_file(Some(&token)).expect(0);
    let told = |ended: Ended, exit: i32, code: &str| {
        let ended = ended.expect(exit);
        let error: serde_json::Value = serde_json::from_str(&ended.stderr).unwrap();
        assert_eq!(error["code"], code, "{ended:?}");
        assert!(error["hint"].is_string(), "{ended:?}");
    };
    told(with_file(None), 4, "token_missing");
    let other_secret = token.replace(&token[21..25], "0000");
    told(with_file(Some(&other_secret)), 4, "token_invalid");
    told(with_file(Some(&token[..60])), 2, "token_malformed");
    // Another node's authority, and none at all.
    let (pinned, pin) = token.split_at(token.len() - 64);
    let other_pin: String = pin.chars().rev().collect();
    told(remote.run(&format!("{pinned}{other_pin}"), &["--json", "ps"]), 4, "server_not_believed");
    told(remote.run(pinned.trim_end_matches('.'), &["--json", "ps"]), 2, "server_not_known");
    told(remote.run(&token, &["--api", "http://192.0.2.1:8000", "--json", "ps"]), 4, "token_in_the_open");

    remote.node.run(&["token", "revoke", "good"]).expect(0);
    told(remote.run(&token, &["--json", "ps"]), 4, "token_invalid");
    let short = remote.token(&["--ttl", "2s"]);
    remote.run(&short, &["ps"]).expect(0);
    let expired = wait_until(EXPIRY_TIME_MAX, || {
        Some(remote.run(&short, &["--json", "ps"])).filter(|ended| ended.code != Some(0))
    });
    told(expired.unwrap(), 4, "token_expired");
    remote.node.finish();
}

#[test]
fn scopes_allow_what_they_say_and_no_more() {
    if skip_without_root("scopes_allow_what_they_say_and_no_more") {
        return;
    }
    let remote = Remote::start();
    let [read, run, admin] = ["read", "run", "admin"].map(|scope| remote.token(&["--scope", scope]));
    let id = remote.node.detach(&["--name", "web", "busybox", "--", "sleep", "1000"]);
    for token in [&read, &run, &admin] {
        remote.run(token, &["inspect", &id]).expect(0);
    }
    let refused = |token: &str, arguments: &[&str]| {
        let ended = remote.run(token, &[&["--json"], arguments].concat());
        assert_ne!(ended.code, Some(0), "{arguments:?}");
        assert!(ended.stderr.contains("\"not_allowed\""), "{arguments:?}: {ended:?}");
    };
    for arguments in
        [&["stop", "web"][..], &["exec", "web", "true"], &["run", "-d", "busybox"], &["rm", "-f", "web"]]
    {
        refused(&read, arguments);
    }
    for arguments in [
        &["token", "ls"][..],
        &["token", "create", "--scope", "admin"],
        &["run", "-d", "-v", "/etc:/host", "busybox"],
        &["run", "-d", "--allow", "host", "busybox"],
        &["run", "-d", "--cap-add", "SYS_ADMIN", "busybox"],
        &["image", "import", "/etc/passwd"],
    ] {
        refused(&run, arguments);
    }
    assert_eq!(remote.run(&run, &["exec", "web", "echo", "in"]).expect(0).stdout, "in\n");
    let mounted = ["run", "-v", "/etc:/host:ro", "busybox", "--", "cat", "/host/hostname"];
    remote.run(&admin, &mounted).expect(0);
    remote.run(&admin, &["token", "ls"]).expect(0);
    remote.node.finish();
}

#[test]
fn a_tenant_knows_of_its_own_workloads_alone() {
    if skip_without_root("a_tenant_knows_of_its_own_workloads_alone") {
        return;
    }
    let remote = Remote::start();
    let [one, other] = ["one", "other"].map(|tenant| remote.token(&["--scope", "run", "--tenant", tenant]));
    let local = remote.node.detach(&["--name", "local", "busybox", "--", "sleep", "1000"]);
    let made = remote.run(&one, &["run", "-d", "--name", "job", "busybox", "--", "sleep", "1000"]).expect(0);
    let id = made.stdout.trim();
    assert_eq!(remote.run(&one, &["ps", "-q", "--json"]).expect(0).json().as_array().unwrap().len(), 1);
    assert_eq!(remote.run(&other, &["ps", "-a", "--json"]).expect(0).json(), serde_json::json!([]));
    for target in [id, &id[..8], "job", &local, "local"] {
        for arguments in [&["inspect"][..], &["stop"], &["rm", "-f"], &["logs"], &["kill"], &["pause"]] {
            remote.run(&other, &[arguments, &[target]].concat()).expect(3);
        }
        remote.run(&other, &["exec", target, "true"]).expect(125);
    }
    remote.run(&one, &["exec", "job", "true"]).expect(0);
    remote.run(&one, &["run", "-d", "--tenant", "other", "busybox"]).expect(4);
    remote.run(&one, &["image", "prune"]).expect(4);
    remote.node.run(&["token", "create", "--scope", "admin", "--tenant", "one"]).expect(2);
    // A removed one's records are as much a secret.
    remote.run(&one, &["rm", "-f", "job"]).expect(0);
    remote.run(&other, &["logs", id]).expect(3);
    remote.run(&one, &["logs", id]).expect(0);
    remote.node.finish();
}
