//! HTTP/2 from clients without TLS, and gRPC, which needs it all the way.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, Version};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::http2::{self, SendRequest},
    rt::Executor,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use std::sync::{Arc, Mutex};
use tokio::{net::TcpStream, task::JoinSet};

use crate::world::{Server, World};

/// Runs what hyper spawns; it ends with the test.
#[derive(Clone, Default)]
pub(crate) struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        self.0.lock().unwrap().spawn(task);
    }
}

/// A client that knows that the other side speaks HTTP/2.
async fn client(world: &World, tasks: &Tasks) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(world.address).await.unwrap();
    let (sender, connection) = http2::handshake(tasks.clone(), TokioIo::new(stream)).await.unwrap();
    tasks.execute(async move { drop(connection.await) });
    sender
}

async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

fn request(uri: &str) -> http::request::Builder {
    Request::post(uri).version(Version::HTTP_2)
}

#[tokio::test]
async fn requests_of_one_connection_go_to_http1_backends() {
    let (world, server, tasks) = (World::start().await, Server::echo().await, Tasks::default());
    world.route("web", server.address);
    let mut sender = client(&world, &tasks).await;
    for number in 0..3 {
        let request = request(&format!("http://web.test/{number}")).body(Full::from("body")).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!((response.status(), response.version()), (http::StatusCode::OK, Version::HTTP_2));
        let text = text(response).await;
        assert!(text.starts_with(&format!("POST /{number} HTTP/1.1\n")), "{text}");
        assert!(
            text.contains("\nhost: web.test\n")
                && text.ends_with("\nbody")
                && text.contains("x-forwarded-host: web.test\n"),
            "{text}"
        );
    }
    let request = request("http://nosuch.test/").body(Full::default()).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 404);
}

#[tokio::test]
async fn a_host_header_that_differs_from_the_authority_is_refused() {
    let (world, server, tasks) = (World::start().await, Server::echo().await, Tasks::default());
    world.route("web", server.address);
    let mut sender = client(&world, &tasks).await;
    let request = request("http://other.test/").header("host", "web.test").body(Full::default()).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 400);
}

/// A server of HTTP/2 that answers like gRPC: the request's message, and a status in the trailers.
async fn grpc_server(tasks: Tasks) -> Server {
    Server::raw(move |stream| {
        let tasks = tasks.clone();
        async move {
            let service = service_fn(|request: Request<Incoming>| async move {
                assert_eq!(request.version(), Version::HTTP_2);
                assert_eq!(request.headers()["te"], "trailers");
                assert_eq!(request.uri().authority().unwrap(), "grpc.test");
                let message = request.into_body().collect().await.unwrap().to_bytes();
                let trailers = HeaderMap::from_iter([(
                    http::HeaderName::from_static("grpc-status"),
                    HeaderValue::from_static("0"),
                )]);
                let frames = [Frame::data(message), Frame::trailers(trailers)].map(Ok::<_, Infallible>);
                let body = StreamBody::new(futures_util::stream::iter(frames));
                Ok::<_, Infallible>(
                    Response::builder().header("content-type", "application/grpc").body(body).unwrap(),
                )
            });
            let _ = hyper::server::conn::http2::Builder::new(tasks)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }
    })
    .await
}

#[tokio::test]
async fn grpc_keeps_its_trailers() {
    let tasks = Tasks::default();
    let (world, server) = (World::start().await, grpc_server(tasks.clone()).await);
    world.route("grpc", server.address);
    let mut sender = client(&world, &tasks).await;
    for _ in 0..3 {
        let request = request("http://grpc.test/package.Service/Method")
            .header("content-type", "application/grpc+proto")
            .header("te", "trailers")
            .body(Full::from("message"))
            .unwrap();
        let body = sender.send_request(request).await.unwrap().into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(body.to_bytes(), "message");
    }
}
