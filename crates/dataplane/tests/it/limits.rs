//! What one client can make the ingress keep: heads, paths, time, connections.

use std::time::{Duration, Instant};

use hypercore_dataplane::IngressConfig;
use tokio::io::AsyncWriteExt as _;

use crate::world::{PATIENCE, Server, World, config, read_all, read_until};

fn impatient() -> IngressConfig {
    let mut config = config();
    config.timeouts.head = Duration::from_millis(300);
    config.timeouts.keep_alive = Duration::from_millis(600);
    config.timeouts.body_idle = Duration::from_millis(300);
    config.timeouts.response = Duration::from_millis(300);
    config
}

#[tokio::test]
async fn huge_heads_are_refused() {
    let (world, server) = (World::start().await, Server::saying("reached").await);
    world.route("web", server.address);
    let long = "x".repeat(40 * 1024);
    let many = "a: b\r\n".repeat(200);
    for (request, status) in [
        (format!("GET / HTTP/1.1\r\nHost: web.test\r\nA: {long}\r\n\r\n"), "431"),
        (format!("GET / HTTP/1.1\r\nHost: web.test\r\n{many}\r\n"), "431"),
        (format!("GET /{} HTTP/1.1\r\nHost: web.test\r\nConnection: close\r\n\r\n", "x".repeat(9000)), "414"),
    ] {
        let answer = world.send(&request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {answer:.200}");
    }
}

#[tokio::test]
async fn slow_heads_are_cut_even_when_a_byte_comes_now_and_then() {
    let world = World::with(impatient()).await;
    for first in ["", "GET / HTTP/1.1\r\nHost: web.test\r\nA:"] {
        let mut client = world.raw().await;
        client.write_all(first.as_bytes()).await.unwrap();
        let begun = Instant::now();
        let (mut reader, mut writer) = client.split();
        let drip = async {
            while !first.is_empty() && writer.write_all(b"a").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            answer = read_all(&mut reader) => assert!(!answer.contains("200"), "{answer}"),
            () = drip => unreachable!("it drips for ever"),
        }
        assert!(begun.elapsed() < PATIENCE / 2, "{first:?} was held for {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_body_that_stops_coming_is_cut() {
    let (world, server) = (World::with(impatient()).await, Server::echo().await);
    world.route("web", server.address);
    let answer = world.send("POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: 10\r\n\r\nabc").await;
    assert!(!answer.contains("200 OK"), "{answer}");
}

#[tokio::test]
async fn a_backend_that_is_silent_is_told_as_late_and_one_that_stops_is_cut() {
    let world = World::with(impatient()).await;
    let silent = Server::raw(|mut stream| async move {
        read_all(&mut stream).await;
    })
    .await;
    let stopping = Server::raw(|mut stream| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc").await.unwrap();
        read_all(&mut stream).await;
    })
    .await;
    world.route("silent", silent.address);
    world.route("stopping", stopping.address);
    let answer = world.get("silent.test", "/").await;
    assert!(answer.starts_with("HTTP/1.1 504 ") && answer.contains("took too long"), "{answer}");
    let answer = world.get("stopping.test", "/").await;
    assert!(answer.ends_with("\r\n\r\nabc"), "{answer}");
}

#[tokio::test]
async fn a_slow_answer_does_not_count_as_an_idle_client() {
    let mut config = impatient();
    config.timeouts.response = PATIENCE;
    let world = World::with(config).await;
    let server = Server::start(|_| async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        http::Response::new(crate::world::full("late"))
    })
    .await;
    world.route("web", server.address);
    let mut client = world.raw().await;
    for _ in 0..2 {
        client.write_all(b"GET / HTTP/1.1\r\nHost: web.test\r\n\r\n").await.unwrap();
        read_until(&mut client, "late").await;
    }
    // And then it does.
    assert_eq!(read_all(&mut client).await, "");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_their_turn() {
    let mut config = config();
    config.limits.connections_max = 2;
    let (world, server) = (World::with(config).await, Server::saying("served").await);
    world.route("web", server.address);
    let request = b"GET / HTTP/1.1\r\nHost: web.test\r\n\r\n";
    let (mut first, mut second, mut third) = (world.raw().await, world.raw().await, world.raw().await);
    for client in [&mut first, &mut second] {
        client.write_all(request).await.unwrap();
        read_until(client, "served").await;
    }
    third.write_all(request).await.unwrap();
    let waits = tokio::time::timeout(Duration::from_millis(200), read_until(&mut third, "served")).await;
    assert!(waits.is_err(), "a third connection was served");
    drop(first);
    read_until(&mut third, "served").await;
}

#[tokio::test]
async fn a_connection_ends_after_its_last_allowed_request() {
    let mut config = config();
    config.limits.requests_per_connection_max = 2;
    let (world, server) = (World::with(config).await, Server::saying("served").await);
    world.route("web", server.address);
    let mut client = world.raw().await;
    let request = b"GET / HTTP/1.1\r\nHost: web.test\r\n\r\n";
    client.write_all(request).await.unwrap();
    read_until(&mut client, "served").await;
    client.write_all(request).await.unwrap();
    let rest = read_all(&mut client).await;
    assert!(rest.ends_with("served"), "{rest}");
}
