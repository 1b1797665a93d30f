//! The agent as a service: what it tells systemd, and that its restarts refuse nobody.

mod callers;
mod systemd;

use std::{fs::File, os::unix::fs::MetadataExt as _, process::Stdio};

use hypercore_fixtures::skip_without_root;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use self::{callers::Callers, systemd::Systemd};
use crate::node::{Node, free_address};

/// Starts the node's agent as systemd would and waits until it is ready.
fn start(node: &mut Node, systemd: &Systemd, arguments: &[&str]) {
    let before = systemd.count("READY=1");
    let log = File::options().create(true).append(true).open(node.path("agent.log")).unwrap();
    let mut up = node.up();
    up.args(arguments);
    node.is_run_by(systemd.start(&up, Stdio::from(log)));
    systemd.wait_for("READY=1", before);
}

#[test]
fn restarts_and_kills_refuse_no_connection_and_cost_no_workload() {
    if skip_without_root("restarts_and_kills_refuse_no_connection_and_cost_no_workload") {
        return;
    }
    let mut node = Node::prepare();
    let systemd = Systemd::listen(&node.path(""));
    start(&mut node, &systemd, &[]);
    node.import_busybox();
    node.detach(&["--name", "stays", "busybox", "--", "sleep", "1000"]);
    let pid = node.inspect("stays")["pid"].clone();
    let socket = node.path("run/api.sock");
    let inode = std::fs::metadata(&socket).unwrap().ino();
    assert_eq!(systemd.stored(), ["api", "http"]);

    let callers = Callers::start(node.http, &socket);
    for round in 0..6 {
        callers.wait_for_more();
        if round % 2 == 0 {
            let stopping = systemd.count("STOPPING=1");
            assert_eq!(node.stop_agent(), Some(0), "{}", node.agent_log());
            systemd.wait_for("STOPPING=1", stopping);
            // Five seconds, and those that requests get.
            systemd.wait_for("EXTEND_TIMEOUT_USEC=10000000", stopping);
        } else {
            node.kill_agent();
        }
        start(&mut node, &systemd, &[]);
        assert_eq!(systemd.stored(), ["api", "http"], "nothing is stored twice");
    }
    callers.wait_for_more();
    let tally = callers.stop();
    assert!(tally.refused.is_empty(), "{} answered, refused: {:?}", tally.answered, tally.refused);
    assert_eq!(std::fs::metadata(&socket).unwrap().ino(), inode);
    let stays = node.inspect("stays");
    assert_eq!((&stays["status"], &stays["pid"]), (&"running".into(), &pid));
    node.finish();
}

#[test]
fn a_socket_that_is_configured_elsewhere_is_let_go() {
    if skip_without_root("a_socket_that_is_configured_elsewhere_is_let_go") {
        return;
    }
    let mut node = Node::prepare();
    let systemd = Systemd::listen(&node.path(""));
    start(&mut node, &systemd, &[]);
    let old = node.http;
    assert_eq!(node.stop_agent(), Some(0));
    assert!(std::net::TcpStream::connect(old).is_ok(), "it waits for the next agent");
    node.http = free_address();
    start(&mut node, &systemd, &[]);
    assert!(std::net::TcpStream::connect(old).is_err(), "nobody would ever answer there");
    assert!(std::net::TcpStream::connect(node.http).is_ok());
    assert_eq!(systemd.stored(), ["api", "http"]);

    // A unit that was stopped has lost its store: the next start begins anew, on the same paths.
    assert_eq!(node.stop_agent(), Some(0));
    systemd.release_store();
    node.run(&["ps"]).expect(5);
    start(&mut node, &systemd, &[]);
    node.run(&["ps"]).expect(0);
    node.finish();
}

#[test]
fn systemd_is_told_of_the_beginning_and_the_end_and_that_it_lives() {
    if skip_without_root("systemd_is_told_of_the_beginning_and_the_end_and_that_it_lives") {
        return;
    }
    let mut node = Node::prepare();
    let systemd = Systemd::listen(&node.path(""));
    let mut up = node.up();
    up.args(["--log-format", "json"]).env("WATCHDOG_USEC", "200000");
    let log = File::create(node.path("agent.log")).unwrap();
    let agent = systemd.start(&up, Stdio::from(log));
    let pid = Pid::from_raw(agent.id().try_into().unwrap());
    node.is_run_by(agent);
    systemd.wait_for("READY=1", 0);
    systemd.wait_for("WATCHDOG=1", 1);
    // One that doesn't get to run says nothing, and systemd would replace it.
    kill(pid, Signal::SIGSTOP).unwrap();
    let silent = systemd.count("WATCHDOG=1");
    kill(pid, Signal::SIGCONT).unwrap();
    systemd.wait_for("WATCHDOG=1", silent);
    assert_eq!(node.stop_agent(), Some(0));
    assert_eq!(systemd.count("STOPPING=1"), 1);
    let log = node.agent_log();
    for line in log.lines() {
        let logged: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(logged["level"].is_string() && logged["timestamp"].is_string(), "{line}");
    }
    assert!(log.contains("ready"), "{log}");
    node.assert_nothing_left();
}
