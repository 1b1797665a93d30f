//! Connections that stop speaking HTTP.

use hypercore_dataplane::RouteState;
use hypercore_model::WorkloadStatus;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::world::{Server, World, config, read_all, read_until, route};

const HANDSHAKE: &str = "GET /chat HTTP/1.1\r\nHost: web.test\r\nConnection: keep-alive, Upgrade\r\n\
                         Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Agrees to the switch, and then says everything twice.
async fn doubling() -> Server {
    Server::raw(|mut stream| async move {
        let head = read_until(&mut stream, "\r\n\r\n").await.to_lowercase();
        assert!(head.contains("upgrade: websocket") && head.contains("connection: upgrade"), "{head}");
        assert!(head.contains("sec-websocket-key: dghl"), "{head}");
        let answer =
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi";
        stream.write_all(answer).await.unwrap();
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            stream.write_all(&buffer[..count]).await.unwrap();
            stream.write_all(&buffer[..count]).await.unwrap();
        }
    })
    .await
}

#[tokio::test]
async fn bytes_go_both_ways_and_the_end_is_passed_on() {
    let (world, server) = (World::start().await, doubling().await);
    world.route("web", server.address);
    let mut client = world.raw().await;
    client.write_all(HANDSHAKE.as_bytes()).await.unwrap();
    let head = read_until(&mut client, "hi").await;
    assert!(
        head.starts_with("HTTP/1.1 101 ") && head.to_lowercase().contains("upgrade: websocket"),
        "{head}"
    );
    // Nothing of it may be taken for HTTP, in particular no bare line ends.
    for bytes in ["\n\n\0GET / HTTP/1.1\n\n", "more"] {
        client.write_all(bytes.as_bytes()).await.unwrap();
        read_until(&mut client, &format!("{bytes}{bytes}")).await;
    }
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut client).await, "");
}

#[tokio::test]
async fn a_refusal_is_passed_on_and_the_connection_goes_on_as_http() {
    let (world, server) = (World::start().await, Server::saying("no").await);
    world.route("web", server.address);
    let mut client = world.raw().await;
    for _ in 0..2 {
        client.write_all(HANDSHAKE.as_bytes()).await.unwrap();
        let answer = read_until(&mut client, "\r\n\r\nno").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}

#[tokio::test]
async fn it_goes_on_when_its_route_goes_and_ends_at_the_deadline() {
    let mut config = config();
    config.timeouts.drain = Duration::from_millis(700);
    let (world, server) = (World::with(config).await, doubling().await);
    world.route("web", server.address);
    let mut client = world.raw().await;
    client.write_all(HANDSHAKE.as_bytes()).await.unwrap();
    read_until(&mut client, "hi").await;
    world.routes.insert(route("web", RouteState::NotRunning(WorkloadStatus::Stopping)));
    assert!(world.get("web.test", "/").await.starts_with("HTTP/1.1 503 "));
    client.write_all(b"still").await.unwrap();
    read_until(&mut client, "stillstill").await;
    assert_eq!(read_all(&mut client).await, "");
}
