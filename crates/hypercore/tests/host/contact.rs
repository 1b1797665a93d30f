//! Into and out of a running workload: exec, attach, logs as they come, published ports, metrics.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::Stdio,
    time::Duration,
};

use hypercore_fixtures::{skip_without_root, wait_until};

use crate::{
    node::{Node, free_address},
    program::{finish, wait},
};

const CONNECT_TIME_MAX: Duration = Duration::from_secs(20);

#[test]
fn exec_runs_more_commands_with_codes_streams_and_input_of_their_own() {
    if skip_without_root("exec_runs_more_commands_with_codes_streams_and_input_of_their_own") {
        return;
    }
    let node = Node::start();
    node.detach(&["--name", "job", "-e", "A=1", "busybox", "--", "sleep", "1000"]);
    let script = "echo $A $B; id -u; pwd; echo err >&2; exit 4";
    let ended =
        node.run(&["exec", "-e", "B=2", "-u", "7", "-w", "/tmp", "job", "--", "sh", "-c", script]).expect(4);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("1 2\n7\n/tmp\n", "err\n"));
    let ended = finish(&mut node.command(&["exec", "-i", "job", "wc", "-c"]), b"12345").expect(0);
    assert_eq!(ended.stdout.trim(), "5");
    node.run(&["exec", "job", "nosuchcommand"]).expect(127);
    node.run(&["exec", "job", "/etc"]).expect(126);
    let ended = node.run(&["exec", "-w", "/nosuch", "job", "true"]).expect(125);
    assert!(ended.stderr.contains("the working directory /nosuch can't be entered"), "{ended:?}");
    node.run(&["exec", "nosuch", "true"]).expect(125);
    node.run(&["stop", "-t", "0", "job"]).expect(0);
    let ended = node.run(&["exec", "job", "true"]).expect(125);
    assert!(ended.stderr.contains("hint: "), "{ended:?}");
    node.finish();
}

#[test]
fn a_published_port_answers_on_localhost() {
    if skip_without_root("a_published_port_answers_on_localhost") {
        return;
    }
    let node = Node::start();
    let address = free_address();
    let publish = format!("{}:80", address.port());
    node.detach(&[
        "--name",
        "web",
        "-p",
        &publish,
        "busybox",
        "--",
        "sh",
        "-c",
        "mkdir /www; echo hello from inside > /www/index.html; httpd -f -p 80 -h /www",
    ]);
    let answer = wait_until(CONNECT_TIME_MAX, || {
        get(address, "/").filter(|answer| answer.contains("hello from inside"))
    });
    assert!(answer.is_some(), "no answer on {address}: {:#}", node.inspect("web"));
    assert_eq!(node.inspect("web")["ports"][0], format!("{publish}/tcp"));
    node.finish();
}

#[test]
fn metrics_and_health_are_served() {
    if skip_without_root("metrics_and_health_are_served") {
        return;
    }
    let node = Node::start();
    node.detach(&["busybox", "--", "sleep", "1000"]);
    for (path, part) in
        [("/healthz", "200 OK"), ("/readyz", "200 OK"), ("/metrics", "hypercore_workload_count")]
    {
        let answer = get(node.http, path).unwrap_or_default();
        assert!(answer.contains(part), "{path}: {answer}");
    }
    node.finish();
}

#[test]
fn logs_follow_a_workload_to_its_end() {
    if skip_without_root("logs_follow_a_workload_to_its_end") {
        return;
    }
    let node = Node::start();
    node.detach(&[
        "--name",
        "job",
        "busybox",
        "--",
        "sh",
        "-c",
        "echo first; while [ ! -e /go ]; do sleep 0.05; done; echo last",
    ]);
    let mut follower = node.command(&["logs", "-f", "job"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "first");
    node.run(&["exec", "job", "touch", "/go"]).expect(0);
    assert_eq!(lines.next().unwrap().unwrap(), "last");
    assert!(lines.next().is_none());
    assert_eq!(wait(&mut follower), Some(0));
    node.finish();
}

#[test]
fn attach_joins_what_runs() {
    if skip_without_root("attach_joins_what_runs") {
        return;
    }
    let node = Node::start();
    node.detach(&["--name", "echo", "-i", "busybox", "--", "sh", "-c", "read line; echo got $line"]);
    let ended = finish(&mut node.command(&["attach", "echo"]), b"something\n").expect(0);
    assert_eq!(ended.stdout, "got something\n");
    node.finish();
}

/// A whole HTTP answer, or nothing if nobody answers yet.
pub(crate) fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: test\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}
