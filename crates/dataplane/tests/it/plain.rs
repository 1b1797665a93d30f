//! Requests as they should be: routing, headers, bodies, and the pages that tell why there is no answer.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hypercore_dataplane::{ResponseBody, RouteState};
use hypercore_model::WorkloadStatus;
use tokio::io::AsyncWriteExt as _;
use tokio_util::sync::CancellationToken;

use crate::world::{Server, World, full, id, read_all, read_until, route};

#[tokio::test]
async fn names_ids_and_short_ids_reach_the_workload_whatever_their_case() {
    let (world, server) = (World::start().await, Server::saying("hello").await);
    world.route("web", server.address);
    let id = id("web");
    for host in
        ["web.test", "WEB.Test:8001", "web.test.", &format!("{id}.test"), &format!("{}.test", id.short())]
    {
        let answer = world.get(host, "/").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("hello"), "{host}: {answer}");
    }
}

#[tokio::test]
async fn the_backend_hears_who_asks_from_us_alone() {
    let (world, server) = (World::start().await, Server::echo().await);
    world.route("web", server.address);
    let answer = world
        .send(
            "GET /a%20b?c=d HTTP/1.1\r\nHost: Web.test:80\r\nX-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n\
             X-Forwarded-Host: evil\r\nX-Real-IP: 6.6.6.6\r\nX-Request-Id: mine\r\nConnection: close, X-Hop\r\n\
             X-Hop: 1\r\nTE: gzip\r\nCookie: a=b\r\n\r\n",
        )
        .await;
    for part in [
        "GET /a%20b?c=d HTTP/1.1\n",
        "host: Web.test:80\n",
        "x-forwarded-for: 127.0.0.1\n",
        "x-forwarded-proto: http\n",
        "x-forwarded-host: Web.test:80\n",
        "forwarded: for=127.0.0.1;proto=http;host=\"Web.test:80\"\n",
        "x-request-id: ",
        "cookie: a=b\n",
    ] {
        assert!(answer.contains(part), "{part} in {answer}");
    }
    for part in ["6.6.6.6", "evil", "mine", "x-hop", "te: gzip"] {
        assert!(!answer.to_lowercase().contains(part), "{part} in {answer}");
    }
}

#[tokio::test]
async fn connections_are_kept_on_both_sides() {
    let world = World::start().await;
    let connections = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    let server = Server::raw(move |mut stream| {
        count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        async move {
            for _ in 0..3 {
                read_until(&mut stream, "\r\n\r\n").await;
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
            }
        }
    })
    .await;
    world.route("web", server.address);
    let mut client = world.raw().await;
    for _ in 0..3 {
        client.write_all(b"GET / HTTP/1.1\r\nHost: web.test\r\n\r\n").await.unwrap();
        read_until(&mut client, "\r\n\r\nok").await;
    }
    assert_eq!(connections.load(std::sync::atomic::Ordering::SeqCst), 1);
    // The backend has closed it by now, or is about to: the next request gets another one.
    client.write_all(b"GET / HTTP/1.1\r\nHost: web.test\r\n\r\n").await.unwrap();
    let answer = read_until(&mut client, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200") || answer.starts_with("HTTP/1.1 502"), "{answer}");
}

#[tokio::test]
async fn bodies_stream_both_ways_before_they_are_complete() {
    let world = World::start().await;
    let server = Server::start(|request: Request<Incoming>| async move {
        let body = request.into_body().map_frame(|frame| {
            frame.map_data(|bytes| Bytes::from(bytes.iter().map(u8::to_ascii_uppercase).collect::<Vec<_>>()))
        });
        Response::new(body.map_err(|error| panic!("{error}")).boxed_unsync())
    })
    .await;
    world.route("web", server.address);
    let mut client = world.raw().await;
    client
        .write_all(b"POST / HTTP/1.1\r\nHost: web.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        .await
        .unwrap();
    read_until(&mut client, "FIRST").await;
    client.write_all(b"6\r\nsecond\r\n").await.unwrap();
    read_until(&mut client, "SECOND").await;
    client.write_all(b"0\r\n\r\n").await.unwrap();
    read_until(&mut client, "0\r\n\r\n").await;
}

#[tokio::test]
async fn a_client_that_waits_for_100_is_told_to_go_on_and_one_without_route_is_not() {
    let (world, server) = (World::start().await, Server::echo().await);
    world.route("web", server.address);
    let head = |host: &str| {
        format!(
            "POST / HTTP/1.1\r\nHost: {host}\r\nExpect: 100-continue\r\nContent-Length: 4\r\nConnection: close\r\n\r\n"
        )
    };
    let mut client = world.raw().await;
    client.write_all(head("web.test").as_bytes()).await.unwrap();
    read_until(&mut client, "HTTP/1.1 100 Continue\r\n\r\n").await;
    client.write_all(b"body").await.unwrap();
    let answer = read_all(&mut client).await;
    assert!(answer.ends_with("\nbody") && !answer.contains("expect:"), "{answer}");
    assert!(world.send(&head("nosuch.test")).await.starts_with("HTTP/1.1 404 "));
}

#[tokio::test]
async fn a_slow_reader_stops_the_backend() {
    let world = World::start().await;
    let sent = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let server = Server::start(move |_| {
        let count = Arc::clone(&count);
        async move {
            let frames = futures_util::stream::repeat_with(move || {
                count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                Ok(Frame::data(Bytes::from_static(&[b'x'; 64 * 1024])))
            });
            Response::new(StreamBody::new(frames).boxed_unsync())
        }
    })
    .await;
    world.route("web", server.address);
    let mut client = world.raw().await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: web.test\r\n\r\n").await.unwrap();
    read_until(&mut client, "xxx").await;
    // When nothing moves any more, all buffers on the way are full: some megabytes of sockets, none of ours.
    let count = || sent.load(std::sync::atomic::Ordering::SeqCst);
    let mut last = 0;
    while count() != last {
        last = count();
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }
    assert!(last < 512, "{last} frames of 64 KiB were taken for a client that reads none");
}

#[tokio::test]
async fn pages_say_what_is_wrong() {
    let world = World::start().await;
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let nonsense = Server::raw(|mut stream| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        stream.write_all(b"SSH-2.0-OpenSSH\r\n").await.unwrap();
    })
    .await;
    world.route("refused", gone);
    world.route("nonsense", nonsense.address);
    world.routes.insert(route("starting", RouteState::NotRunning(WorkloadStatus::Starting)));
    world.routes.insert(route("portless", RouteState::NoPort));
    for (host, status, part) in [
        ("nosuch.test", "404 Not Found", "No workload answers for nosuch.test."),
        ("a.b.test", "404 Not Found", "No workload answers for a.b.test."),
        ("elsewhere.example", "404 Not Found", "No workload answers for elsewhere.example."),
        ("starting.test", "503 Service Unavailable", "starting is starting"),
        ("portless.test", "502 Bad Gateway", "--route-port"),
        ("refused.test", "502 Bad Gateway", "does not answer on its port"),
        ("nonsense.test", "502 Bad Gateway", "no proper HTTP answer"),
    ] {
        let answer = world.get(host, "/").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{host}: {answer}");
        assert!(answer.contains(part) && answer.contains("x-request-id: "), "{host}: {answer}");
        assert!(answer.contains("content-type: text/plain"), "{host}: {answer}");
    }
    let page = world.send("GET / HTTP/1.0\r\nHost: nosuch.test\r\nAccept: text/html\r\n\r\n").await;
    assert!(page.contains("content-type: text/html") && page.contains("<h1>404 Not Found</h1>"), "{page}");
}

#[tokio::test]
async fn other_hosts_get_local_pages() {
    let world = World::with_local(Arc::new(|visit, request: Request<Incoming>| {
        assert!(visit.address.ip().is_loopback() && !visit.is_encrypted);
        if request.uri().path() != "/healthz" {
            return None;
        }
        Some(Box::pin(async { Response::new(ResponseBody::local(full("well"))) }))
    }))
    .await;
    assert!(world.get("127.0.0.1:8001", "/healthz").await.ends_with("well"));
    assert!(world.send("GET /healthz HTTP/1.0\r\n\r\n").await.ends_with("well"));
    assert!(world.get("127.0.0.1:8001", "/other").await.starts_with("HTTP/1.1 404 "));
    assert!(world.get("web.test", "/healthz").await.starts_with("HTTP/1.1 404 "));
}

#[tokio::test]
async fn another_backend_is_asked_where_one_can_not_be_reached() {
    let (world, server) = (World::start().await, Server::saying("alive").await);
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let backends = [gone, server.address].map(|address| hypercore_dataplane::Backend { address });
    world.routes.insert(route("web", RouteState::Live(backends.to_vec())));
    for _ in 0..4 {
        assert!(world.get("web.test", "/").await.ends_with("alive"));
    }
}

#[tokio::test]
async fn a_connection_that_the_backend_closed_meanwhile_is_not_used_again() {
    let world = World::start().await;
    let closed = CancellationToken::new();
    let tell = closed.clone();
    let server = Server::raw(move |mut stream| {
        let tell = tell.clone();
        async move {
            read_until(&mut stream, "\r\n\r\n").await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
            drop(stream);
            tell.cancel();
        }
    })
    .await;
    world.route("web", server.address);
    for _ in 0..20 {
        assert!(world.get("web.test", "/").await.ends_with("ok"));
        closed.cancelled().await;
    }
}
