//! Callers who mean harm: floods, bombs and nonsense. Each is answered or shown out, and the node answers others as
//! before, with no more memory than before.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use hypercore_fixtures::skip_without_root;

use super::{
    Remote,
    raw::{
        self, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, Raw, SETTINGS, frame,
    },
};

const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// What a flood may cost the agent for good: the allocator's slack.
const GROWTH_BYTES_MAX: u64 = 48 << 20;
const FLOOD: u32 = 10_000;

const LIST: &str = "/hypercore.v1.ClusterService/List";
const SPAWN: &str = "/hypercore.v1.ClusterService/Spawn";
const INSPECT: &str = "/hypercore.v1.ClusterService/Inspect";

impl Remote {
    fn authority(&self) -> std::path::PathBuf {
        self.node.path("data/ca.pem")
    }

    async fn raw(&self) -> Raw {
        Raw::connect(self.address, &self.authority()).await
    }

    /// The agent's resident memory, in bytes.
    fn memory_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.node.agent_pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Makes one call with this body, and answers the trailers or the headers that have the status in them.
    async fn call(&self, token: &str, path: &str, more: &[(&str, &str)], body: Bytes) -> HeaderMap {
        let stream = raw::secure(self.address, &self.authority()).await;
        let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
        let mut request = Request::post(format!("https://node{path}"))
            .header("te", "trailers")
            .header("content-type", "application/grpc")
            .header("authorization", format!("Bearer {token}"));
        for (name, value) in more {
            request = request.header(*name, *value);
        }
        let answered = async {
            let (response, mut sending) = client.send_request(request.body(()).unwrap(), false).unwrap();
            // A server that has refused the head doesn't wait for the body.
            let _ = sending.send_data(body, true);
            let (head, mut body) = response.await.unwrap().into_parts();
            if head.headers.contains_key("grpc-status") {
                return head.headers;
            }
            while let Some(data) = body.data().await {
                let _ = body.flow_control().release_capacity(data.unwrap().len());
            }
            body.trailers().await.unwrap().unwrap_or(head.headers)
        };
        let answered = async {
            tokio::select! {
                headers = answered => headers,
                ended = connection => panic!("the connection ended: {ended:?}"),
            }
        };
        tokio::time::timeout(ANSWER_TIME_MAX, answered).await.expect("no answer")
    }

    async fn status(&self, token: &str, path: &str, more: &[(&str, &str)], body: Bytes) -> tonic::Code {
        let headers = self.call(token, path, more, body).await;
        tonic::Code::from_bytes(headers["grpc-status"].as_bytes())
    }
}

/// One gRPC message: whether it is compressed, its length, itself.
fn message(is_compressed: u8, length: u32, bytes: &[u8]) -> Bytes {
    let mut body = vec![is_compressed];
    body.extend(length.to_be_bytes());
    body.extend(bytes);
    body.into()
}

fn plain(bytes: &[u8]) -> Bytes {
    message(0, u32::try_from(bytes.len()).unwrap(), bytes)
}

/// A protobuf field of bytes: its key, its length, itself.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut encoded = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap()];
    encoded.extend(bytes);
    encoded
}

#[tokio::test]
async fn messages_that_make_no_sense_have_a_clear_status() {
    if skip_without_root("messages_that_make_no_sense_have_a_clear_status") {
        return;
    }
    use tonic::Code;
    let remote = Remote::start();
    let token = remote.token(&["--scope", "admin"]);
    for (what, path, body, expected) in [
        ("well", LIST, plain(&[]), Code::Ok),
        ("no such method", "/hypercore.v1.ClusterService/Nothing", plain(&[]), Code::Unimplemented),
        ("no protobuf", SPAWN, plain(&[0xff; 40]), Code::Internal),
        ("a cut field", SPAWN, plain(&[0x1a, 0x7f, b'a']), Code::Internal),
        ("no UTF-8", INSPECT, plain(&field(1, &[0xff, 0xfe])), Code::Internal),
        ("nothing to run", SPAWN, plain(&[]), Code::InvalidArgument),
        ("control characters", SPAWN, plain(&field(3, b"\x1b[2J\n")), Code::InvalidArgument),
        ("no such workload", INSPECT, plain(&field(1, b"\x1b]0;pwned\x07")), Code::NotFound),
        ("a message of 4 GiB", LIST, message(0, u32::MAX, &[0; 64]), Code::OutOfRange),
        ("a message of 5 MiB", LIST, plain(&vec![0; 5 << 20]), Code::OutOfRange),
        ("compressed in no way", LIST, message(1, 8, &[0; 8]), Code::Internal),
        ("an unknown flag", LIST, message(7, 0, &[]), Code::Internal),
    ] {
        let headers = remote.call(&token, path, &[], body).await;
        let code = Code::from_bytes(headers["grpc-status"].as_bytes());
        let told = headers.get("grpc-message").map(|told| told.to_str().unwrap().to_owned());
        assert_eq!(code, expected, "{what}: {told:?}");
        let is_clean = told.unwrap_or_default().bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        assert!(is_clean, "{what}");
    }
    let bomb = [("grpc-encoding", "gzip")];
    assert_eq!(remote.status(&token, LIST, &bomb, message(1, 8, &[0; 8])).await, Code::Unimplemented);
    remote.node.run(&["ps"]).expect(0);
    remote.node.finish();
}

#[tokio::test]
async fn floods_are_broken_off_and_cost_nothing_that_stays() {
    if skip_without_root("floods_are_broken_off_and_cost_nothing_that_stays") {
        return;
    }
    let remote = Remote::start();
    let token = remote.token(&["--scope", "run"]);
    remote.run(&token, &["ps"]).expect(0);
    let before = remote.memory_bytes();
    rapid_reset(&remote, &token).await;
    many_streams(&remote, &token).await;
    endless_headers(&remote).await;
    large_headers(&remote, &token).await;
    many_settings(&remote).await;
    unread_bodies(&remote).await;
    remote.run(&token, &["ps"]).expect(0);
    remote.node.run(&["ps"]).expect(0);
    let grown = remote.memory_bytes().saturating_sub(before);
    assert!(grown < GROWTH_BYTES_MAX, "{grown} bytes more");
    assert!(!remote.node.agent_log().contains("panicked"), "{}", remote.node.agent_log());
    remote.node.finish();
}

/// Calls that are given up as soon as they are made (CVE-2023-44487): the server breaks off.
async fn rapid_reset(remote: &Remote, token: &str) {
    let mut raw = remote.raw().await;
    let head = raw::head(LIST, Some(token));
    let cancel = 8u32.to_be_bytes();
    for number in 0..FLOOD {
        let stream = 2 * number + 1;
        let mut call = frame(HEADERS, END_HEADERS, stream, &head);
        call.extend(frame(RST_STREAM, 0, stream, &cancel));
        if raw.send(&call).await.is_err() {
            return;
        }
    }
    assert!(raw.all().await.iter().any(|frame| frame.kind == GOAWAY), "ten thousand resets were borne");
}

/// Calls that never end: the server refuses those beyond its limit.
async fn many_streams(remote: &Remote, token: &str) {
    let mut raw = remote.raw().await;
    let head = raw::head(LIST, Some(token));
    for number in 0..FLOOD {
        if raw.send(&frame(HEADERS, END_HEADERS, 2 * number + 1, &head)).await.is_err() {
            return;
        }
    }
    let refused = raw.all().await.iter().any(|frame| matches!(frame.kind, RST_STREAM | GOAWAY));
    assert!(refused, "ten thousand calls at once were taken");
}

/// A head without an end (CVE-2024-27316): the server breaks off.
async fn endless_headers(remote: &Remote) {
    let mut raw = remote.raw().await;
    let mut block = raw::head(LIST, None);
    raw.send(&frame(HEADERS, 0, 1, &block)).await.unwrap();
    block.clear();
    raw::header(&mut block, "x", &"y".repeat(8000));
    for _ in 0..FLOOD {
        if raw.send(&frame(CONTINUATION, 0, 1, &block)).await.is_err() {
            return;
        }
    }
    panic!("80 MB of headers were borne");
}

/// One head that is larger than any of ours: the call is refused, or the connection broken off.
async fn large_headers(remote: &Remote, token: &str) {
    let mut raw = remote.raw().await;
    let mut block = raw::head(LIST, Some(token));
    raw::header(&mut block, "x", &"y".repeat(12_000));
    raw::header(&mut block, "z", &"y".repeat(4000));
    let (first, rest) = block.split_at(16_000);
    raw.send(&frame(HEADERS, END_STREAM, 1, first)).await.unwrap();
    let _ = raw.send(&frame(CONTINUATION, END_HEADERS, 1, rest)).await;
    // 431 (RFC 6585 §5) in a head that ends the call, with no body of gRPC; or no answer at all.
    let frames = raw.all().await;
    assert!(!frames.iter().any(|frame| frame.kind == DATA && !frame.payload.is_empty()), "{frames:?}");
}

/// Settings that each ask for an answer: they are answered or broken off, and not gathered.
async fn many_settings(remote: &Remote) {
    let mut raw = remote.raw().await;
    let settings = frame(SETTINGS, 0, 0, &[]);
    for _ in 0..FLOOD {
        if raw.send(&settings).await.is_err() {
            return;
        }
    }
    raw.all().await;
}

/// Bodies for calls that were refused at their head: what is not read is not kept.
async fn unread_bodies(remote: &Remote) {
    let mut raw = remote.raw().await;
    let head = raw::head(LIST, None);
    let data = vec![0; 16_000];
    for number in 0..100 {
        let stream = 2 * number + 1;
        let sent = async {
            raw.send(&frame(HEADERS, END_HEADERS, stream, &head)).await?;
            for _ in 0..4 {
                raw.send(&frame(DATA, 0, stream, &data)).await?;
            }
            std::io::Result::Ok(())
        };
        if sent.await.is_err() {
            return;
        }
    }
    raw.all().await;
}
