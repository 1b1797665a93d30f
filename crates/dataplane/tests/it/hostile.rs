//! Requests that two servers could read differently, byte for byte as they would be sent. None reaches a backend.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use http::Response;
use tokio::io::AsyncWriteExt as _;

use crate::world::{Server, World, full, read_all, read_until};

/// A world whose backend counts the requests that reach it.
async fn counting() -> (World, Server, Arc<AtomicUsize>) {
    let world = World::start().await;
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    let server = Server::start(move |_| {
        seen.fetch_add(1, Ordering::SeqCst);
        async { Response::new(full("reached")) }
    })
    .await;
    world.route("web", server.address);
    (world, server, count)
}

#[tokio::test]
async fn smuggled_requests_are_refused_and_their_connection_is_closed() {
    let (world, _server, count) = counting().await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: web.test\r\n\r\n";
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 0\r\nContent-Length: 44",
        "Content-Length: 0\r\nContent-Length: 0",
        "Content-Length: 0, 44",
        "Content-Length: +0",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding:\x0bchunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
        "X: y\r\n Transfer-Encoding: chunked",
        "X: y\nTransfer-Encoding: chunked",
        "X: y\rTransfer-Encoding: chunked",
        "X: \0",
        "Content-Length\0: 5",
    ] {
        let answer = world
            .send(&format!("POST / HTTP/1.1\r\nHost: web.test\r\n{lines}\r\n\r\n0\r\n\r\n{smuggled}"))
            .await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{lines:?}: {answer:?}");
        assert!(!answer.contains("reached"), "{lines:?}: {answer:?}");
    }
    assert_eq!(count.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn request_lines_and_hosts_in_doubt_are_refused() {
    let (world, _server, count) = counting().await;
    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: web.test\r\nHost: web.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: web.test, other.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: web.test@other.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: web.test/x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET http://web.test/ HTTP/1.1\r\nHost: other.test\r\n\r\n",
        "GET ftp://web.test/ HTTP/1.1\r\nHost: web.test\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: web.test\r\n\r\n",
        "GET / x HTTP/1.1\r\nHost: web.test\r\n\r\n",
        "GET / HTTP/3.0\r\nHost: web.test\r\n\r\n",
        "GET /\r\n\r\n",
        "GET / HTTP/1.1\nHost: web.test\n\n",
        "\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: web.test\r\n\r\n",
    ] {
        let answer = world.send(request).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{request:?}: {answer:?}");
    }
    for method in ["TRACE", "CONNECT"] {
        let target = if method == "CONNECT" { "web.test:80" } else { "/" };
        let answer = world
            .send(&format!("{method} {target} HTTP/1.1\r\nHost: web.test:80\r\nConnection: close\r\n\r\n"))
            .await;
        assert!(answer.starts_with("HTTP/1.1 405 "), "{method}: {answer:?}");
    }
    assert_eq!(count.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_body_that_breaks_its_framing_ends_the_connection_and_is_no_next_request() {
    let (world, _server, count) = counting().await;
    for body in ["zz\r\n", "3\nabc\r\n0\r\n\r\n", "3\r\nabcd\r\n0\r\n\r\n", "ffffffffffffffffff\r\n"] {
        let answer = world
            .send(&format!(
                "POST / HTTP/1.1\r\nHost: web.test\r\nTransfer-Encoding: chunked\r\n\r\n{body}\
                 GET /smuggled HTTP/1.1\r\nHost: web.test\r\n\r\n"
            ))
            .await;
        assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{body:?}: {answer:?}");
    }
    assert!(count.load(Ordering::SeqCst) <= 4, "a smuggled request reached the backend");
}

#[tokio::test]
async fn pipelined_requests_are_answered_one_by_one() {
    let (world, _server, count) = counting().await;
    let one = "POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: 3\r\n\r\nabc";
    let last = "GET / HTTP/1.1\r\nHost: web.test\r\nConnection: close\r\n\r\n";
    let answer = world.send(&format!("{one}\r\n{one}{last}")).await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 3, "{answer}");
    assert_eq!(count.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn an_upgrade_to_http2_without_tls_is_not_passed_on() {
    let (world, server) = (World::start().await, Server::echo().await);
    world.route("web", server.address);
    let answer = world
        .send(
            "GET / HTTP/1.1\r\nHost: web.test\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\n\
             HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(!answer.contains("h2c") && !answer.contains("http2-settings"), "{answer}");
}

#[tokio::test]
async fn an_answer_with_two_lengths_is_framed_anew() {
    let world = World::start().await;
    let server = Server::raw(|mut stream| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        read_all(&mut stream).await;
    })
    .await;
    world.route("web", server.address);
    let answer = world.get("web.test", "/").await.to_lowercase();
    assert!(answer.contains("hello") || answer.starts_with("http/1.1 502"), "{answer}");
    assert!(!answer.contains("content-length: 3"), "{answer}");
}
