//! The end: of a route, and of the ingress. What is under way is finished; what is new is not begun.

use std::{sync::Arc, time::Duration};

use http::Response;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, sync::Semaphore, time::timeout};

use crate::world::{PATIENCE, Server, World, config, full, id, read_all, read_until};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: web.test\r\n\r\n";

/// A server whose answers wait for permits; `begun` says that a request is there.
async fn gated() -> (Server, Arc<Semaphore>, Arc<Semaphore>) {
    let (gate, begun) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (hold, tell) = (Arc::clone(&gate), Arc::clone(&begun));
    let server = Server::start(move |_| {
        let (hold, tell) = (Arc::clone(&hold), Arc::clone(&tell));
        async move {
            tell.add_permits(1);
            hold.acquire().await.unwrap().forget();
            Response::new(full("finished"))
        }
    })
    .await;
    (server, gate, begun)
}

#[tokio::test]
async fn a_request_under_way_outlives_its_route() {
    let (world, (server, gate, begun)) = (World::start().await, gated().await);
    world.route("web", server.address);
    let mut client = world.raw().await;
    client.write_all(REQUEST).await.unwrap();
    begun.acquire().await.unwrap().forget();
    world.routes.remove(id("web"));
    assert!(world.get("web.test", "/").await.starts_with("HTTP/1.1 404 "));
    gate.add_permits(1);
    read_until(&mut client, "finished").await;
}

#[tokio::test]
async fn the_ingress_ends_when_what_is_under_way_has_ended() {
    let (mut world, (server, gate, begun)) = (World::start().await, gated().await);
    world.route("web", server.address);
    let (mut busy, mut idle) = (world.raw().await, world.raw().await);
    gate.add_permits(1);
    idle.write_all(REQUEST).await.unwrap();
    read_until(&mut idle, "finished").await;
    begun.acquire().await.unwrap().forget();
    busy.write_all(REQUEST).await.unwrap();
    begun.acquire().await.unwrap().forget();
    world.draining.cancel();
    assert_eq!(read_all(&mut idle).await, "", "an idle connection is closed at once");
    let refused = async {
        while TcpStream::connect(world.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, refused).await.expect("new connections are refused");
    gate.add_permits(1);
    let answer = read_all(&mut busy).await;
    assert!(answer.contains("connection: close") && answer.ends_with("finished"), "{answer}");
    timeout(PATIENCE, world.ingress.join_next()).await.expect("the ingress ends").unwrap().unwrap();
}

#[tokio::test]
async fn the_ingress_ends_at_the_deadline_whatever_is_under_way() {
    let mut config = config();
    config.timeouts.drain = Duration::from_millis(200);
    let (mut world, (server, _gate, begun)) = (World::with(config).await, gated().await);
    world.route("web", server.address);
    let mut client = world.raw().await;
    client.write_all(REQUEST).await.unwrap();
    begun.acquire().await.unwrap().forget();
    world.draining.cancel();
    timeout(PATIENCE, world.ingress.join_next()).await.expect("the ingress ends").unwrap().unwrap();
    assert_eq!(read_all(&mut client).await, "");
}
