//! Peers that break the protocol, or know more of it than the shim: the shim answers, and goes on.

use std::{
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    time::Duration,
};

use hypercore_fixtures::skip_without_root;
use hypercore_runtime::sandbox::ExecError;
use hypercore_wire::{
    Decoder, ErrorCode, Flags, Frame, Message, StreamId,
    message::{Describe, Exec, Hello, OpenStdin, Stdin, Window},
    negotiation::greeting,
};

use super::{
    Held, deadline,
    held::{WAIT_MAX, listen, shell},
};

/// A peer that speaks the protocol by hand.
struct Peer {
    socket: UnixStream,
    decoder: Decoder,
}

impl Peer {
    fn connect(held: &Held) -> Self {
        let socket = UnixStream::connect(held.socket()).unwrap();
        socket.set_read_timeout(Some(WAIT_MAX)).unwrap();
        Self { socket, decoder: Decoder::new() }
    }

    fn greeted(held: &Held) -> Self {
        let mut peer = Self::connect(held);
        peer.say(0, greeting());
        assert!(matches!(peer.hear(), Some((0, Message::Hello(_)))));
        peer
    }

    fn say(&mut self, stream: u32, message: impl Into<Message>) {
        let mut bytes = Vec::new();
        message.into().encode_to(StreamId(stream), Flags::NONE, &mut bytes).unwrap();
        self.send(&bytes);
    }

    fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    /// The next message and its stream; `None` when the shim closed the connection.
    fn hear(&mut self) -> Option<(u32, Message)> {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some((frame.stream.0, Message::decode(&frame.payload).unwrap()));
            }
            let mut buffer = [0; 4096];
            match self.socket.read(&mut buffer) {
                Ok(0) => return None,
                Ok(len) => self.decoder.push(&buffer[..len]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Expects a fault on a stream.
    fn hear_fault(&mut self, stream: u32, code: ErrorCode) {
        match self.hear() {
            Some((on, Message::Error(fault))) => assert_eq!((on, fault.code), (stream, code), "{fault}"),
            other => panic!("{other:?}"),
        }
    }

    fn hear_expulsion(&mut self, code: ErrorCode) {
        self.hear_fault(0, code);
        assert_eq!(self.hear(), None);
    }
}

#[tokio::test]
async fn strangers_are_answered_and_the_shim_goes_on() {
    if skip_without_root("strangers_are_answered_and_the_shim_goes_on") {
        return;
    }
    let held = Held::shell("exec sleep 1000");
    let sandbox = held.launch().await;
    let mode = std::fs::metadata(held.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // No greeting, no frame, no common generation, two greetings, requests on the connection's own stream.
    let mut rude = Peer::connect(&held);
    rude.say(1, Describe {});
    rude.hear_expulsion(ErrorCode::PROTOCOL);
    let mut garbage = Peer::connect(&held);
    garbage.send(&[0xff; 64]);
    garbage.hear_expulsion(ErrorCode::PROTOCOL);
    let mut future = Peer::connect(&held);
    future.say(0, Hello { version_min: 200, version_max: 201 });
    assert!(matches!(future.hear(), Some((0, Message::Hello(_)))));
    future.hear_expulsion(ErrorCode::UNSUPPORTED);
    let mut twice = Peer::greeted(&held);
    twice.say(0, greeting());
    twice.hear_expulsion(ErrorCode::PROTOCOL);
    let mut zero = Peer::greeted(&held);
    zero.say(0, Describe {});
    zero.hear_expulsion(ErrorCode::PROTOCOL);

    let mut session = sandbox.exec(shell("echo served")).await.unwrap();
    assert_eq!(listen(&mut session).await.text(), "served\n");
}

#[tokio::test]
async fn what_a_newer_peer_says_does_no_harm() {
    if skip_without_root("what_a_newer_peer_says_does_no_harm") {
        return;
    }
    let held = Held::shell("exec sleep 1000");
    held.launch().await;
    let mut peer = Peer::greeted(&held);
    // {"v": 1, "t": 999, "p": {}}, then no CBOR at all, then a message that only shims send.
    let unknown = b"\xa3\x61v\x01\x61t\x19\x03\xe7\x61p\xa0".to_vec();
    for (stream, payload) in [(1, unknown), (2, vec![0xff])] {
        let mut bytes = Vec::new();
        Frame { stream: StreamId(stream), flags: Flags(0x80), payload }.encode_to(&mut bytes).unwrap();
        peer.send(&bytes);
    }
    peer.say(3, hypercore_wire::message::Done {});
    peer.hear_fault(1, ErrorCode::UNSUPPORTED);
    peer.hear_fault(2, ErrorCode::PROTOCOL);
    peer.hear_fault(3, ErrorCode::PROTOCOL);
    peer.say(4, Describe {});
    assert!(matches!(peer.hear(), Some((4, Message::State(_)))));
}

#[tokio::test]
async fn credit_is_enforced_both_ways() {
    if skip_without_root("credit_is_enforced_both_ways") {
        return;
    }
    let held = Held::shell("exec sleep 1000").with_stdin();
    held.launch().await;
    let mut peer = Peer::greeted(&held);
    let exec = |script: &str| Exec {
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        env: Vec::new(),
        cwd: None,
        user: None,
        tty: false,
        stdin: false,
        size: None,
    };
    peer.say(1, exec("echo 12345; exec sleep 1000"));
    assert!(matches!(peer.hear(), Some((1, Message::ExecStarted(_)))));
    peer.say(1, Window { bytes: 2 });
    let Some((1, Message::Stdout(first))) = peer.hear() else { panic!("no output") };
    assert_eq!(first.data, b"12");
    peer.say(1, Window { bytes: 100 });
    let Some((1, Message::Stdout(rest))) = peer.hear() else { panic!("no output") };
    assert_eq!(rest.data, b"345\n");
    // One connection carries many streams, and an end needs no credit.
    peer.say(2, exec("exit 9"));
    assert!(matches!(peer.hear(), Some((2, Message::ExecStarted(_)))));
    assert!(matches!(peer.hear(), Some((2, Message::ExecExited(_)))));
    peer.say(2, OpenStdin {});
    let Some((2, Message::Window(window))) = peer.hear() else { panic!("no credit") };
    peer.say(2, Stdin { data: vec![0; window.bytes as usize + 1] });
    peer.hear_expulsion(ErrorCode::PROTOCOL);
}

#[tokio::test]
async fn a_peer_that_asks_and_never_listens_is_not_heard_for_ever() {
    if skip_without_root("a_peer_that_asks_and_never_listens_is_not_heard_for_ever") {
        return;
    }
    let held = Held::shell("exec sleep 1000");
    let sandbox = held.launch().await;
    let mut peer = Peer::greeted(&held);
    peer.socket.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut bytes = Vec::new();
    for stream in 1..=1000 {
        Message::from(Describe {}).encode_to(StreamId(stream), Flags::NONE, &mut bytes).unwrap();
    }
    let mut asked_bytes = 0;
    while peer.socket.write_all(&bytes).is_ok() {
        asked_bytes += bytes.len();
        assert!(asked_bytes < 100_000_000, "the shim takes everything in");
    }
    let mut session = sandbox.exec(shell("echo served")).await.unwrap();
    assert_eq!(listen(&mut session).await.text(), "served\n");
    let shim = held.shim_pid().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{shim}/status")).unwrap();
    let anon = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let anon_kib: u64 = anon.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(anon_kib < 2048, "{anon_kib} KiB");
}

#[tokio::test]
async fn clients_are_bounded_and_those_too_many_are_told() {
    if skip_without_root("clients_are_bounded_and_those_too_many_are_told") {
        return;
    }
    let held = Held::shell("exec sleep 1000");
    let sandbox = held.launch().await;
    let mut peers: Vec<Peer> = (0..256).map(|_| Peer::connect(&held)).collect();
    Peer::connect(&held).hear_expulsion(ErrorCode::TOO_MANY);
    let error = sandbox.exec(shell("true")).await.unwrap_err();
    assert!(matches!(&error, ExecError::Refused(fault) if fault.code == ErrorCode::TOO_MANY), "{error:?}");
    peers.truncate(200);
    // Whether the shim learns first that they are gone, or that somebody comes, is the kernel's choice.
    let admitted = async {
        loop {
            match sandbox.exec(shell("echo served")).await {
                Err(ExecError::Refused(fault)) if fault.code == ErrorCode::TOO_MANY => {}
                session => break session.unwrap(),
            }
        }
    };
    let mut session = deadline(admitted).await;
    assert_eq!(listen(&mut session).await.text(), "served\n");
}
