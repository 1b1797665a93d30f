//! The API as other programs find it: gRPC on the Unix socket, with the standard health service and server reflection.

use std::time::Duration;

use hypercore_fixtures::skip_without_root;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::node::Node;

const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);

#[tokio::test]
async fn every_service_is_healthy() {
    if skip_without_root("every_service_is_healthy") {
        return;
    }
    let node = Node::start();
    let mut health = HealthClient::new(channel(&node).await);
    for service in
        ["", "hypercore.v1.ClusterService", "hypercore.v1.ImageService", "hypercore.v1.NodeService"]
    {
        let answer = health.check(HealthCheckRequest { service: service.into() }).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    let unknown = health.check(HealthCheckRequest { service: "nosuch".into() }).await.unwrap_err();
    assert_eq!(unknown.code(), tonic::Code::NotFound);
    node.finish();
}

#[tokio::test]
async fn reflection_tells_services_and_their_messages() {
    if skip_without_root("reflection_tells_services_and_their_messages") {
        return;
    }
    let node = Node::start();
    let mut reflection = ServerReflectionClient::new(channel(&node).await);
    let asked = [
        MessageRequest::ListServices(String::new()),
        MessageRequest::FileContainingSymbol("hypercore.v1.VmSpawnRequest".into()),
    ];
    let requests =
        asked.map(|message| ServerReflectionRequest { host: String::new(), message_request: Some(message) });
    let mut answers =
        reflection.server_reflection_info(tokio_stream::iter(requests)).await.unwrap().into_inner();
    let services = match answers.message().await.unwrap().unwrap().message_response.unwrap() {
        MessageResponse::ListServicesResponse(list) => list.service,
        other => panic!("{other:?}"),
    };
    let names: Vec<&str> = services.iter().map(|service| service.name.as_str()).collect();
    for service in ["hypercore.v1.ClusterService", "hypercore.v1.ImageService", "grpc.health.v1.Health"] {
        assert!(names.contains(&service), "{service} in {names:?}");
    }
    match answers.message().await.unwrap().unwrap().message_response.unwrap() {
        MessageResponse::FileDescriptorResponse(file) => assert!(!file.file_descriptor_proto.is_empty()),
        other => panic!("{other:?}"),
    }
    drop(answers);
    node.finish();
}

async fn channel(node: &Node) -> Channel {
    let address = format!("unix:{}", node.path("run/api.sock").display());
    let endpoint = Endpoint::from_shared(address).unwrap().timeout(ANSWER_TIME_MAX);
    endpoint.connect().await.unwrap()
}
