//! The door against those who don't mean well: each of them is shown out, and the next one who does is let in.

use hypercore_trust::Identity;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::{TlsConnector, client};

use super::*;
use crate::{
    certificates::{ApiTls, Authority},
    clock,
    directory::Directory,
};

const PATIENT: Duration = Duration::from_secs(60);
const TLS13: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
const SHORT: Duration = Duration::from_millis(50);

struct Door {
    root: tempfile::TempDir,
    address: std::net::SocketAddr,
    connections: mpsc::Receiver<io::Result<Connection>>,
    _accepting: JoinSet<()>,
}

impl Door {
    async fn open(limits: Limits) -> Self {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::open(&root.path().join("data"), &root.path().join("run")).unwrap();
        let node = Identity::from_seed(&[3; 32]).node_id();
        let authority = Authority::open(&directory, node, clock::now()).unwrap();
        let tls = ApiTls::new(Arc::new(authority), None).server_config(&Default::default()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ready, connections) = queue();
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, tls, limits, ready));
        Self { root, address, connections, _accepting: accepting }
    }

    async fn plain(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn secure(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        protocol: &[u8],
    ) -> io::Result<client::TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        let pem = self.root.path().join("data/ca.pem");
        roots.add(CertificateDer::from_pem_file(pem).unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, self.plain().await).await
    }

    /// Whether somebody who means well gets in.
    async fn lets_in(&mut self) -> (client::TlsStream<TcpStream>, Connection) {
        let stream = self.secure(TLS13, b"h2").await.unwrap();
        (stream, self.connections.recv().await.unwrap().unwrap())
    }
}

async fn is_shown_out(mut stream: TcpStream) -> bool {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(PATIENT, stream.read_to_end(&mut rest)).await.expect("it stays");
    // An alert, an end, or a reset; and no word of HTTP.
    read.is_err() || !rest.starts_with(b"HTTP")
}

#[tokio::test]
async fn garbage_and_plaintext_are_shown_out() {
    let mut door = Door::open(Limits::default()).await;
    for bytes in [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        &[0; 4096],
        &[0xff; 4096],
        b"\x16\x03\x01\xff\xff\x01",
    ] {
        let mut stream = door.plain().await;
        stream.write_all(bytes).await.unwrap();
        let _ = stream.shutdown().await;
        assert!(is_shown_out(stream).await, "{:?}", &bytes[..6]);
    }
    assert!(door.connections.try_recv().is_err());
    door.lets_in().await;
}

#[tokio::test]
async fn old_tls_and_other_protocols_are_shown_out() {
    let mut door = Door::open(Limits::default()).await;
    assert!(door.secure(&[&rustls::version::TLS12], b"h2").await.is_err());
    let other = door.secure(TLS13, b"http/1.1").await;
    // In TLS 1.3 the client may have finished when the server refuses: it is told at its first read.
    let is_refused = match other {
        Err(_) => true,
        Ok(mut stream) => stream.read_u8().await.is_err(),
    };
    assert!(is_refused);
    assert!(door.connections.try_recv().is_err());
    door.lets_in().await;
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_is_broken_off() {
    let mut door = Door::open(Limits { handshake_time_max: SHORT, ..Limits::default() }).await;
    let silent = door.plain().await;
    let mut half = door.plain().await;
    half.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
    assert!(is_shown_out(silent).await);
    assert!(is_shown_out(half).await);
    assert!(door.connections.try_recv().is_err());
}

#[tokio::test]
async fn a_stranger_who_stays_is_shown_out_and_who_is_known_may_stay() {
    let mut door = Door::open(Limits { stranger_time_max: SHORT, ..Limits::default() }).await;
    let (_client, mut stranger) = door.lets_in().await;
    let error = tokio::time::timeout(PATIENT, stranger.read_u8()).await.expect("it stays").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);

    let (mut client, mut known) = door.lets_in().await;
    tonic::transport::server::Connected::connect_info(&known).is_known_now();
    // Longer than any stranger may: the wait is the point.
    assert!(tokio::time::timeout(2 * SHORT, known.read_u8()).await.is_err(), "nothing was sent");
    client.write_all(b"x").await.unwrap();
    assert_eq!(known.read_u8().await.unwrap(), b'x');
}

#[tokio::test]
async fn there_is_room_for_so_many_and_again_when_one_leaves() {
    let mut door = Door::open(Limits { connections_max: 2, ..Limits::default() }).await;
    let (one, _two) = (door.lets_in().await, door.lets_in().await);
    let waiting = door.secure(TLS13, b"h2");
    tokio::pin!(waiting);
    assert!(tokio::time::timeout(SHORT, &mut waiting).await.is_err(), "there is no room");
    drop(one);
    tokio::time::timeout(PATIENT, waiting).await.expect("there is room").unwrap();
}

#[tokio::test]
async fn one_address_can_not_take_every_place() {
    let mut door = Door::open(Limits::default()).await;
    let mut held = Vec::new();
    // One task accepts, one after the other: who comes after the last place is shown out, and nobody waits.
    loop {
        let stream = door.plain().await;
        let mut byte = [0];
        match tokio::time::timeout(SHORT, stream.peek(&mut byte)).await {
            Err(_) => held.push(stream),
            Ok(_) => break,
        }
    }
    assert_eq!(held.len(), 64);
    held.pop();
    tokio::time::timeout(PATIENT, async {
        while door.secure(TLS13, b"h2").await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("a place that was left is given again");
    assert!(door.connections.recv().await.is_some());
}
