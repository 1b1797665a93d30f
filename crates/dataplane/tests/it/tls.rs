//! TLS: names, protocols, and certificates that are exchanged while connections go on.

use std::{sync::Arc, time::Duration};

use hypercore_dataplane::{
    Entrance, IngressConfig,
    tls::{
        Certificates,
        files::{CertificateFiles, certified_key},
    },
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
    sign::CertifiedKey,
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, task::JoinSet};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::world::{PATIENCE, Server, World, read_all, read_until};

/// The certificate's verifier takes no wildcard right below a top-level domain.
fn cloud() -> IngressConfig {
    IngressConfig::new("cloud.test".parse().unwrap())
}

struct Made {
    key: Arc<CertifiedKey>,
    certificate: CertificateDer<'static>,
    pem: (String, String),
}

fn make(names: &[&str]) -> Made {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    Made {
        key: certified_key(vec![certificate.clone()], key).unwrap(),
        certificate,
        pem: (made.cert.pem(), made.signing_key.serialize_pem()),
    }
}

async fn connect(
    world: &World,
    name: &str,
    trusted: &Made,
    protocol: &[u8],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.certificate.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(world.address).await?).await
}

async fn get(stream: &mut TlsStream<TcpStream>, host: &str) -> String {
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await.unwrap();
    read_until(stream, "\r\n\r\n").await
}

#[tokio::test]
async fn each_name_gets_its_certificate_and_the_backend_hears_of_tls() {
    let (web, all) = (make(&["web.cloud.test"]), make(&["*.cloud.test"]));
    let certificates = Certificates::new();
    certificates.insert("web.cloud.test", Arc::clone(&web.key));
    certificates.insert("*.cloud.test", Arc::clone(&all.key));
    let (world, server) = (World::with_tls(cloud(), certificates).await, Server::echo().await);
    world.route("web", server.address);
    world.route("other", server.address);
    for (name, made) in [("web.cloud.test", &web), ("other.cloud.test", &all)] {
        let mut stream = connect(&world, name, made, b"http/1.1").await.unwrap();
        stream
            .write_all(format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let answer = read_all(&mut stream).await;
        assert!(answer.contains("x-forwarded-proto: https\n"), "{answer}");
    }
    assert!(connect(&world, "a.b.cloud.test", &all, b"http/1.1").await.is_err(), "no certificate covers it");
}

#[tokio::test]
async fn a_connection_serves_other_hosts_only_under_the_same_certificate() {
    let (web, all) = (make(&["web.cloud.test"]), make(&["*.cloud.test"]));
    let certificates = Certificates::new();
    certificates.insert("web.cloud.test", Arc::clone(&web.key));
    certificates.insert("*.cloud.test", Arc::clone(&all.key));
    let (world, server) = (World::with_tls(cloud(), certificates).await, Server::saying("x").await);
    ["web", "one", "two"].iter().for_each(|name| world.route(name, server.address));
    let mut stream = connect(&world, "one.cloud.test", &all, b"http/1.1").await.unwrap();
    assert!(get(&mut stream, "two.cloud.test").await.starts_with("HTTP/1.1 200 "));
    let mut stream = connect(&world, "one.cloud.test", &all, b"http/1.1").await.unwrap();
    assert!(get(&mut stream, "web.cloud.test").await.starts_with("HTTP/1.1 421 "));
}

#[tokio::test]
async fn http2_is_agreed_on_in_the_handshake() {
    let made = make(&["web.cloud.test"]);
    let certificates = Certificates::new();
    certificates.set_default(Arc::clone(&made.key));
    let (world, server) = (World::with_tls(cloud(), certificates).await, Server::echo().await);
    world.route("web", server.address);
    let stream = connect(&world, "web.cloud.test", &made, b"h2").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let tasks = crate::http2::Tasks::default();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(tasks.clone(), io).await.unwrap();
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let request = http::Request::get("https://web.cloud.test/")
        .body(http_body_util::Empty::<bytes::Bytes>::new())
        .unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
}

#[tokio::test]
async fn exchanged_files_are_shown_to_new_connections_and_old_ones_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let files = CertificateFiles {
        certificates: directory.path().join("tls.crt"),
        key: directory.path().join("tls.key"),
    };
    let write = |made: &Made| {
        std::fs::write(&files.certificates, &made.pem.0).unwrap();
        std::fs::write(&files.key, &made.pem.1).unwrap();
    };
    let (first, second) = (make(&["web.cloud.test"]), make(&["web.cloud.test", "more.cloud.test"]));
    write(&first);
    let certificates = Certificates::new();
    certificates.set_default(files.load().unwrap());
    let mut follower = JoinSet::new();
    follower.spawn(files.clone().follow(certificates.clone(), Duration::from_millis(20)));
    let (world, server) = (World::with_tls(cloud(), certificates).await, Server::saying("x").await);
    world.route("web", server.address);
    let mut old = connect(&world, "web.cloud.test", &first, b"http/1.1").await.unwrap();
    // Half of a pair, and nonsense, change nothing.
    std::fs::write(&files.key, "nonsense").unwrap();
    assert!(connect(&world, "web.cloud.test", &first, b"http/1.1").await.is_ok());
    write(&second);
    let exchanged = async {
        while connect(&world, "web.cloud.test", &second, b"http/1.1").await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, exchanged).await.expect("the new certificate is shown");
    assert!(get(&mut old, "web.cloud.test").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn plain_requests_are_sent_to_https_when_that_is_wanted() {
    let (world, server) = (
        World::enter(cloud(), |listener| Entrance::redirecting(listener, 8443)).await,
        Server::saying("x").await,
    );
    world.route("web", server.address);
    let answer = world.get("web.cloud.test", "/a?b=c").await;
    assert!(answer.starts_with("HTTP/1.1 308 "), "{answer}");
    assert!(answer.contains("location: https://web.cloud.test:8443/a?b=c\r\n"), "{answer}");
}
