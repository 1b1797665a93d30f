//! Certificates from an authority that looks closely: issued, kept, renewed, and asked for only with a reason.

use std::{path::Path, time::Duration};

use hypercore_dataplane::{
    Entrance, Ingress, Routes, TcpConnector,
    acme::{Acme, AcmeConfig, Challenges},
    tls::Certificates,
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    acme_server::Authority,
    world::{PATIENCE, World, config, route},
};
use hypercore_dataplane::RouteState;

/// An ingress that answers challenges, and an authority that sees it.
async fn start(directory: &Path, life: time::Duration) -> (World, Authority, Challenges) {
    // instant-acme takes the process's provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (routes, draining, challenges) = (Routes::new(), CancellationToken::new(), Challenges::new());
    let serving = Ingress::new(config(), routes.clone(), TcpConnector)
        .with_challenges(challenges.clone())
        .serve(Entrance::plain(listener), draining.clone());
    let mut ingress = JoinSet::new();
    ingress.spawn(async move { serving.await.unwrap() });
    let authority = Authority::start(address, &directory.join("root.pem"), life).await;
    (World { address, routes, draining, ingress }, authority, challenges)
}

/// A node's part: it can be ended and begun again.
fn follow(directory: &Path, world: &World, authority: &Authority, challenges: &Challenges) -> JoinSet<()> {
    let mut config =
        AcmeConfig::new(authority.directory_url.clone(), Some("ops@test".into()), directory.join("acme"));
    config.root = Some(directory.join("root.pem"));
    config.look = Duration::from_millis(20);
    let (certificates, challenges) = (Certificates::new(), challenges.clone());
    let acme = Acme::new(config, "test".parse().unwrap(), world.routes.clone(), certificates, challenges);
    let mut task = JoinSet::new();
    task.spawn(async move { acme.follow().await.unwrap() });
    task
}

async fn until(authority: &Authority, is_there: impl Fn(&[String]) -> bool) {
    let look = async {
        while !is_there(&authority.issued()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, look).await;
    assert!(waited.is_ok(), "issued {:?}, refused {:?}", authority.issued(), authority.refused());
}

#[tokio::test]
async fn names_with_routes_get_certificates_once_and_they_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let (world, authority, challenges) = start(directory.path(), time::Duration::days(90)).await;
    let node = follow(directory.path(), &world, &authority, &challenges);
    until(&authority, |issued| issued == ["test"]).await;
    world.routes.insert(route("web", RouteState::NoPort));
    until(&authority, |issued| issued == ["test", "web.test"]).await;
    drop(node);
    // The next run takes what was kept: account and certificates; only what is new is asked for.
    let _node = follow(directory.path(), &world, &authority, &challenges);
    world.routes.insert(route("more", RouteState::NoPort));
    until(&authority, |issued| issued.len() > 2).await;
    assert_eq!(authority.issued(), ["test", "web.test", "more.test"]);
    assert_eq!((authority.accounts(), authority.refused()), (1, Vec::new()));
    assert!(world.get("web.test", "/.well-known/acme-challenge/dG9rZW4").await.starts_with("HTTP/1.1 502 "));
}

#[tokio::test]
async fn a_certificate_is_renewed_before_it_ends() {
    let directory = tempfile::tempdir().unwrap();
    // An hour lies behind each new one: with less than half an hour ahead, two thirds of its time are over.
    let (world, authority, challenges) = start(directory.path(), time::Duration::minutes(20)).await;
    let _node = follow(directory.path(), &world, &authority, &challenges);
    until(&authority, |issued| issued.len() >= 3).await;
    assert!(authority.issued().iter().all(|name| name == "test"), "{:?}", authority.issued());
}

#[tokio::test]
async fn an_authority_that_does_not_see_the_answer_is_not_asked_again_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let (mut world, authority, _) = start(directory.path(), time::Duration::days(90)).await;
    // The ingress that the authority sees knows of no challenge.
    let _node = follow(directory.path(), &world, &authority, &Challenges::new());
    let refused = async {
        while authority.refused().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("the authority looks for the answer");
    // Many looks later it still has been asked once.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!((authority.refused().len(), authority.issued().len()), (1, 0), "{:?}", authority.refused());
    world.ingress.abort_all();
}
