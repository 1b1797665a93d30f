//! The node's pages for those who call from elsewhere: by TLS and with a token, or not at all.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use hypercore_fixtures::skip_without_root;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::raw;
use crate::node::{Node, free_address};

/// Longest wait for an answer, on a machine that does much else.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// A node whose pages can be asked for from everywhere, in the open and by HTTPS.
struct Pages {
    node: Node,
    https: SocketAddr,
}

impl Pages {
    fn start() -> Self {
        let (mut node, https) = (Node::prepare(), free_address());
        node.http.set_ip(Ipv4Addr::UNSPECIFIED.into());
        node.set("HYPERCORE_UP_INGRESS_HTTPS", format!("0.0.0.0:{}", https.port()));
        node.set("HYPERCORE_UP_INGRESS_TLS", "development");
        node.start_agent();
        node.import_busybox();
        Self { node, https }
    }

    /// The machine as its own bridge has it: whoever connects there comes from there, and not from loopback.
    fn elsewhere(&self) -> Ipv4Addr {
        let (network, _) = self.node.cidr.rsplit_once('.').unwrap();
        format!("{network}.1").parse().unwrap()
    }

    fn token(&self, arguments: &[&str]) -> String {
        self.node.run(&[&["token", "create"], arguments].concat()).expect(0).stdout.trim().to_owned()
    }

    /// The answer to a request in the open.
    fn plain(&self, host: Ipv4Addr, path: &str, token: Option<&str>) -> String {
        let mut stream = TcpStream::connect((host, self.node.http.port())).unwrap();
        stream.set_read_timeout(Some(ANSWER_TIME_MAX)).unwrap();
        stream.write_all(request(path, token).as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The answer to a request by HTTPS from elsewhere.
    fn encrypted(&self, path: &str, token: Option<&str>) -> String {
        let address = SocketAddr::from((self.elsewhere(), self.https.port()));
        let authority = self.node.path("data/ca.pem");
        let exchange = async {
            let mut stream = raw::secure_for(address, &authority, "localhost", b"http/1.1").await;
            stream.write_all(request(path, token).as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            // The server ends the connection without TLS's own farewell, or with it.
            let read = stream.read_to_end(&mut answer);
            tokio::time::timeout(ANSWER_TIME_MAX, read).await.expect("the answer has no end").ok();
            String::from_utf8(answer).unwrap()
        };
        tokio::runtime::Runtime::new().unwrap().block_on(exchange)
    }
}

fn request(path: &str, token: Option<&str>) -> String {
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{token}\r\n")
}

#[track_caller]
fn is(answer: &str, status: u16, part: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(part), "{answer}");
}

#[test]
fn logs_are_read_by_tokens_that_nobody_else_could_read() {
    if skip_without_root("logs_are_read_by_tokens_that_nobody_else_could_read") {
        return;
    }
    let pages = Pages::start();
    let here = Ipv4Addr::LOCALHOST;
    let run = ["run", "--name", "job", "busybox", "--", "sh", "-c", "echo one; echo two"];
    pages.node.run(&run).expect(0);
    let token = pages.token(&[]);
    is(&pages.plain(here, "/logs?id=job", None), 401, "this needs an API token");
    is(&pages.plain(here, "/logs?id=job", Some(&token)), 200, "one\ntwo\n");
    assert!(!pages.plain(here, "/logs?id=job&tail=1", Some(&token)).contains("one"));
    is(&pages.encrypted("/logs?id=job", Some(&token)), 200, "one\ntwo\n");
    is(&pages.encrypted("/logs?id=job", None), 401, "this needs an API token");

    // The right token, shown to everybody on the way.
    let told = pages.plain(pages.elsewhere(), "/logs?id=job", Some(&token));
    is(&told, 403, "without TLS");
    assert!(!told.contains("one") && !told.contains(&token), "{told}");

    is(&pages.encrypted("/logs?id=nosuch", Some(&token)), 404, "nosuch");
    is(&pages.encrypted("/logs?id=../../etc/passwd", Some(&token)), 400, "id is");
    let stranger = pages.token(&["--tenant", "other"]);
    is(&pages.encrypted("/logs?id=job", Some(&stranger)), 404, "job");
    pages.node.run(&["rm", "job"]).expect(0);
    pages.node.finish();
}

#[test]
fn metrics_are_this_machines_and_those_of_unbound_tokens() {
    if skip_without_root("metrics_are_this_machines_and_those_of_unbound_tokens") {
        return;
    }
    let pages = Pages::start();
    let (token, bound) = (pages.token(&[]), pages.token(&["--tenant", "acme"]));
    let counted = "# EOF";
    is(&pages.plain(Ipv4Addr::LOCALHOST, "/metrics", None), 200, counted);
    is(&pages.plain(pages.elsewhere(), "/metrics", None), 401, "token");
    is(&pages.plain(pages.elsewhere(), "/metrics", Some(&token)), 403, "without TLS");
    is(&pages.encrypted("/metrics", Some(&token)), 200, counted);
    is(&pages.encrypted("/metrics", None), 401, "token");
    is(&pages.encrypted("/metrics", Some(&bound)), 403, "tenant");
    // Whether the node is well, everybody may ask; other paths of other hosts are nobody's.
    is(&pages.plain(pages.elsewhere(), "/healthz", None), 200, "ok");
    is(&pages.encrypted("/readyz", None), 200, "ready");
    is(&pages.encrypted("/other", Some(&token)), 404, "");
    pages.node.finish();
}
