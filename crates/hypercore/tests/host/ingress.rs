//! Workloads by host name: routes that come and go with them, pages that say what is wrong, requests that drain.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use hypercore_fixtures::{skip_without_root, wait_until};

use crate::node::{Node, free_address};

const TIME_MAX: Duration = Duration::from_secs(20);

/// Serves files and programs of /www; told to stop, it first lets the program `slow` come to its end.
const SERVER: &str = "mkdir -p /www/cgi-bin; echo hello > /www/index.html; \
    printf '#!/bin/sh\\necho; echo begun; while [ ! -e /go ]; do sleep 0.05; done; echo finished; touch /done' \
        > /www/cgi-bin/slow; chmod +x /www/cgi-bin/slow; httpd -p 80 -h /www; \
    trap 'while [ ! -e /done ]; do sleep 0.05; done; exit 0' TERM; while :; do sleep 0.05; done";

fn ask(node: &Node, host: &str, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(node.http).unwrap();
    stream.set_read_timeout(Some(TIME_MAX)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    stream
}

fn get(node: &Node, host: &str, path: &str) -> String {
    let mut answer = String::new();
    ask(node, host, path).read_to_string(&mut answer).unwrap();
    answer
}

#[track_caller]
fn wait_for_answer(node: &Node, host: &str, part: &str) -> String {
    let mut last = String::new();
    let found = wait_until(TIME_MAX, || {
        last = get(node, host, "/");
        last.contains(part).then(|| last.clone())
    });
    found.unwrap_or_else(|| panic!("{host} never answered {part:?}: {last}\n{}", node.agent_log()))
}

#[test]
fn a_route_comes_and_goes_with_its_workload_and_lets_requests_finish() {
    if skip_without_root("a_route_comes_and_goes_with_its_workload_and_lets_requests_finish") {
        return;
    }
    let node = Node::start();
    assert!(get(&node, "web.localhost", "/").starts_with("HTTP/1.1 404 "));
    let id = node.detach(&["--name", "web", "--route-port", "80", "busybox", "--", "sh", "-c", SERVER]);
    wait_for_answer(&node, "web.localhost", "hello");
    for host in [format!("{id}.localhost"), format!("{}.LOCALHOST:80", &id[..8])] {
        assert!(get(&node, &host, "/").contains("hello"), "{host}");
    }
    let url = format!("http://web.localhost:{}", node.http.port());
    assert_eq!(node.run(&["ps", "--json"]).expect(0).json()[0]["url"], url.as_str());
    assert_eq!(node.inspect("web")["url"], url.as_str());

    let mut slow = ask(&node, "web.localhost", "/cgi-bin/slow");
    let mut seen = String::new();
    let mut buffer = [0; 1024];
    while !seen.contains("begun") {
        let count = slow.read(&mut buffer).unwrap();
        assert!(count > 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    let mut stop = node.command(&["stop", "-t", "20", "web"]).spawn().unwrap();
    let page = wait_for_answer(&node, "web.localhost", "503 Service Unavailable");
    assert!(page.contains("web is stopping") && page.contains("x-request-id: "), "{page}");
    node.run(&["exec", "web", "touch", "/go"]).expect(0);
    slow.read_to_string(&mut seen).unwrap();
    assert!(seen.contains("finished"), "the request was cut: {seen}");
    assert!(stop.wait().unwrap().success());
    assert!(get(&node, "web.localhost", "/").contains("web is stopped"));
    node.run(&["rm", "web"]).expect(0);
    wait_for_answer(&node, "web.localhost", "404 Not Found");
    node.finish();
}

#[test]
fn an_agent_that_ends_gives_requests_the_time_it_was_told_to() {
    if skip_without_root("an_agent_that_ends_gives_requests_the_time_it_was_told_to") {
        return;
    }
    let mut node = Node::prepare();
    node.set("HYPERCORE_INGRESS_DRAIN", "60s");
    node.start_agent();
    node.import_busybox();
    // The file that lets the request go on, where it can be made without an agent.
    let flags = node.path("flags");
    std::fs::create_dir(&flags).unwrap();
    let server = format!("ln -s /flags/go /go; {SERVER}");
    let mount = format!("{}:/flags", flags.display());
    node.detach(&["--name", "web", "--route-port", "80", "-v", &mount, "busybox", "--", "sh", "-c", &server]);
    wait_for_answer(&node, "web.localhost", "hello");
    let mut slow = ask(&node, "web.localhost", "/cgi-bin/slow");
    let mut buffer = [0; 1024];
    let mut seen = String::new();
    while !seen.contains("begun") {
        let count = slow.read(&mut buffer).unwrap();
        assert!(count > 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    let ended = std::thread::scope(|scope| {
        let ending = scope.spawn(|| node.stop_agent());
        // Longer than any agent takes that has nobody to wait for.
        slow.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
        let silent = slow.read(&mut buffer).unwrap_err();
        assert_eq!(silent.kind(), std::io::ErrorKind::WouldBlock, "the request was cut: {silent}");
        slow.set_read_timeout(Some(TIME_MAX)).unwrap();
        std::fs::write(flags.join("go"), "").unwrap();
        slow.read_to_string(&mut seen).unwrap();
        ending.join().unwrap()
    });
    assert!(seen.contains("finished"), "the request was cut: {seen}");
    assert_eq!(ended, Some(0), "{}", node.agent_log());
    node.start_agent();
    node.finish();
}

#[test]
fn pages_tell_what_is_wrong_with_a_workload() {
    if skip_without_root("pages_tell_what_is_wrong_with_a_workload") {
        return;
    }
    let mut node = Node::start();
    node.detach(&["--name", "deaf", "-p", "80", "busybox", "--", "sleep", "1000"]);
    node.detach(&["--name", "portless", "busybox", "--", "sleep", "1000"]);
    node.detach(&[
        "--name",
        "mute",
        "--route-port",
        "80",
        "busybox",
        "--",
        "sh",
        "-c",
        "while :; do echo x | nc -l -p 80; done",
    ]);
    let page = wait_for_answer(&node, "deaf.localhost", "502 Bad Gateway");
    assert!(page.contains("does not answer on its port"), "{page}");
    assert!(get(&node, "portless.localhost", "/").contains("--route-port"));
    wait_for_answer(&node, "mute.localhost", "no proper HTTP answer");
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert!(get(&node, "127.0.0.1", path).starts_with("HTTP/1.1 200 "), "{path}");
    }
    // The next agent has the routes again, without anybody asking for them.
    node.kill_agent();
    node.start_agent();
    wait_for_answer(&node, "deaf.localhost", "502 Bad Gateway");
    node.finish();
}

/// Asks the node by HTTPS as any client would that believes in its authority.
fn fetch(node: &Node, https: std::net::SocketAddr, host: &str) -> std::process::Output {
    let mut curl = std::process::Command::new("curl");
    curl.args(["--silent", "--show-error", "--max-time", "5", "--cacert"]).arg(node.path("data/ca.pem"));
    curl.args(["--resolve", &format!("{host}:{}:{}", https.port(), https.ip())]);
    curl.arg(format!("https://{host}:{}/", https.port())).output().unwrap()
}

#[test]
fn the_nodes_own_authority_vouches_for_each_workload_by_name() {
    if skip_without_root("the_nodes_own_authority_vouches_for_each_workload_by_name") {
        return;
    }
    let https = free_address();
    let mut node = Node::prepare();
    node.set("HYPERCORE_INGRESS_HTTPS", https.to_string());
    node.set("HYPERCORE_INGRESS_TLS", "development");
    node.start_agent();
    node.import_busybox();
    node.detach(&["--name", "web", "--route-port", "80", "busybox", "--", "sh", "-c", SERVER]);
    let answered = wait_until(TIME_MAX, || {
        let answer = fetch(&node, https, "web.localhost");
        String::from_utf8_lossy(&answer.stdout).contains("hello").then_some(())
    });
    assert!(answered.is_some(), "{:?}\n{}", fetch(&node, https, "web.localhost"), node.agent_log());
    let stranger = std::process::Command::new("curl")
        .args(["--silent", "--max-time", "5", "--resolve"])
        .arg(format!("web.localhost:{}:{}", https.port(), https.ip()))
        .arg(format!("https://web.localhost:{}/", https.port()))
        .output()
        .unwrap();
    // curl(1), exit code 60: the server's certificate can't be authenticated.
    assert_eq!(stranger.status.code(), Some(60), "who doesn't know the authority must not believe in it");
    node.run(&["rm", "-f", "web"]).expect(0);
    node.finish();
}
