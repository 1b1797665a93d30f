//! Pulls from registries that lie, break off or flood. Each is refused by name, and nothing of it is visible after.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use hypercore_fixtures::{Blob, ImageBuilder, Layer, OciImage, Registry, skip_without_root};
use hypercore_runtime::image::{ContentError, TransferError, UnpackError};
use serde_json::{Value, json};
use tar::EntryType;

use super::{Store, cause, two_layers};

/// What the server does with one path.
#[derive(Clone)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// What `Content-Length` says; the connection ends after `body` all the same.
    length: usize,
    /// Whether the body is sent over and over until the client leaves.
    is_endless: bool,
}

impl Answer {
    fn ok(body: Vec<u8>) -> Self {
        Self { status: 200, headers: Vec::new(), length: body.len(), body, is_endless: false }
    }
}

/// A registry on loopback that answers as it was told.
struct HostileRegistry {
    address: String,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl HostileRegistry {
    fn start(answers: HashMap<String, Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            std::thread::scope(|scope| {
                for stream in listener.incoming().map_while(Result::ok) {
                    if over.load(Ordering::SeqCst) {
                        break;
                    }
                    // A client that leaves early is what these tests are about.
                    let answers = &answers;
                    scope.spawn(move || drop(answer(stream, answers)));
                }
            });
        });
        Self { address, is_over, thread: Some(thread) }
    }

    /// Serves an image as it is, but for the answers that `change` replaces.
    fn serve(image: &OciImage, change: impl FnOnce(&mut HashMap<String, Answer>)) -> Self {
        let mut answers = HashMap::new();
        for blob in image.content() {
            answers.insert(blob_path(blob), Answer::ok(blob.bytes.clone()));
        }
        answers.insert(MANIFEST.to_owned(), Answer::ok(image.manifest.bytes.clone()));
        change(&mut answers);
        Self::start(answers)
    }

    fn reference(&self) -> String {
        format!("{}/app:1", self.address)
    }
}

impl Drop for HostileRegistry {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(&self.address));
        drop(self.thread.take().map(JoinHandle::join));
    }
}

const MANIFEST: &str = "/v2/app/manifests/1";

fn blob_path(blob: &Blob) -> String {
    format!("/v2/app/blobs/{}", blob.digest)
}

fn answer(stream: TcpStream, answers: &HashMap<String, Answer>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    let path = request.split(' ').nth(1).unwrap_or_default();
    let missing = Answer { status: 404, ..Answer::ok(Vec::new()) };
    let answer = answers.get(path).unwrap_or(&missing);
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {} X\r\nConnection: close\r\nContent-Length: {}\r\n",
        answer.status, answer.length
    )?;
    for (name, value) in &answer.headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    stream.write_all(b"\r\n")?;
    stream.write_all(&answer.body)?;
    if !answer.is_endless {
        return Ok(());
    }
    loop {
        stream.write_all(&answer.body)?;
    }
}

/// Pulls, which must fail and leave nothing, and returns why.
async fn refused(registry: &HostileRegistry) -> TransferError {
    let store = Store::new();
    let error = store.pull(&registry.reference()).await.unwrap_err();
    store.assert_nothing_new();
    cause(error, &registry.reference())
}

/// The same manifest with something changed.
fn changed_manifest(image: &OciImage, change: impl FnOnce(&mut Value)) -> HostileRegistry {
    let mut manifest: Value = serde_json::from_slice(&image.manifest.bytes).unwrap();
    change(&mut manifest);
    let manifest = serde_json::to_vec(&manifest).unwrap();
    HostileRegistry::serve(image, |answers| {
        answers.insert(MANIFEST.to_owned(), Answer::ok(manifest));
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn content_with_a_wrong_digest_is_refused() {
    let image = two_layers();
    for blob in image.content() {
        let registry = HostileRegistry::serve(&image, |answers| {
            answers.get_mut(&blob_path(blob)).unwrap().body[10] ^= 1;
        });
        let cause = refused(&registry).await;
        let TransferError::DigestMismatch { expected, actual } = cause else { panic!("{cause:?}") };
        assert_eq!(expected.to_string(), blob.digest);
        assert_ne!(actual, expected);
    }
    let announced = HostileRegistry::serve(&image, |answers| {
        let other = format!("sha256:{}", "0".repeat(64));
        answers.get_mut(MANIFEST).unwrap().headers.push(("Docker-Content-Digest".to_owned(), other));
    });
    assert!(matches!(refused(&announced).await, TransferError::DigestMismatch { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_was_damaged_in_a_real_registry_is_refused() {
    let (registry, store) = (Registry::start().unwrap(), Store::new());
    let image = two_layers();
    let reference = registry.push(&image, "app:1").unwrap();
    let file = registry.blob_file(&image.layers[1].digest);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let cause = cause(store.pull(&reference).await.unwrap_err(), &reference);
    assert!(matches!(cause, TransferError::DigestMismatch { .. }), "{cause:?}");
    store.assert_nothing_new();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_layer_is_told_with_its_sizes() {
    let image = two_layers();
    let layer = &image.layers[0];
    for length in [layer.bytes.len(), layer.bytes.len() - 7] {
        let registry = HostileRegistry::serve(&image, |answers| {
            let answer = answers.get_mut(&blob_path(layer)).unwrap();
            answer.body.truncate(layer.bytes.len() - 7);
            answer.length = length;
        });
        let cause = refused(&registry).await;
        let TransferError::Truncated { blob, expected_bytes, received_bytes } = cause else {
            panic!("{cause:?}")
        };
        assert_eq!(blob.to_string(), layer.digest);
        assert_eq!((expected_bytes, received_bytes + 7), (layer.bytes.len() as u64, expected_bytes));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_are_cut_off() {
    let image = two_layers();
    let endless = |path: String| {
        HostileRegistry::serve(&image, |answers| {
            let body = vec![b' '; 65536];
            answers.insert(path, Answer { length: usize::MAX >> 1, is_endless: true, ..Answer::ok(body) });
        })
    };
    let manifest = refused(&endless(MANIFEST.to_owned())).await;
    assert!(matches!(manifest, TransferError::Malformed(ContentError::TooLarge { .. })), "{manifest:?}");
    for blob in image.content() {
        let cause = refused(&endless(blob_path(blob))).await;
        assert!(matches!(cause, TransferError::Malformed(ContentError::TooLong { .. })), "{cause:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_manifests_are_refused() {
    let image = two_layers();
    for (what, registry) in [
        (
            "layers and diff_ids differ",
            changed_manifest(&image, |it| drop(it["layers"].as_array_mut().unwrap().pop())),
        ),
        ("no layers", changed_manifest(&image, |it| it["layers"] = json!([]))),
        ("an artifact", changed_manifest(&image, |it| it["config"]["mediaType"] = json!("application/x"))),
        (
            "a foreign layer",
            changed_manifest(&image, |it| it["layers"][0]["mediaType"] = json!("application/x")),
        ),
        (
            "docker's schema 1",
            changed_manifest(&image, |it| {
                it["mediaType"] = json!("application/vnd.docker.distribution.manifest.v1+prettyjws");
            }),
        ),
        (
            "a path as digest",
            changed_manifest(&image, |it| it["layers"][0]["digest"] = json!("sha256:../../etc")),
        ),
        (
            "another algorithm",
            changed_manifest(&image, |it| {
                it["layers"][0]["digest"] = json!(format!("sha512:{}", "0".repeat(128)));
            }),
        ),
        ("a giant layer", changed_manifest(&image, |it| it["layers"][0]["size"] = json!(u64::MAX))),
        (
            "a thousand layers",
            changed_manifest(&image, |it| {
                let layer = it["layers"][0].clone();
                it["layers"] = json!(vec![layer; 1000]);
            }),
        ),
        (
            "an index of itself",
            HostileRegistry::serve(&image, |answers| {
                let index = OciImage::index(&[&image]).bytes;
                let path = format!("/v2/app/manifests/{}", image.digest());
                answers.insert(path, Answer::ok(image.manifest.bytes[1..].to_vec()));
                answers.insert(MANIFEST.to_owned(), Answer::ok(index));
            }),
        ),
        (
            "no JSON",
            HostileRegistry::serve(&image, |answers| {
                answers.insert(MANIFEST.to_owned(), Answer::ok(b"<html>".to_vec()));
            }),
        ),
    ] {
        let cause = refused(&registry).await;
        let is_told = matches!(cause, TransferError::Malformed(_) | TransferError::DigestMismatch { .. });
        assert!(is_told, "{what}: {cause:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_that_climb_out_or_lie_are_refused() {
    if skip_without_root("layers_that_climb_out_or_lie_are_refused") {
        return;
    }
    let with = |kind, path: &str, link: &str| {
        let mut layer = Layer::new();
        layer.unchecked(kind, path, 0o644, link, b"");
        ImageBuilder::empty().push_layer(layer).build()
    };
    for image in [
        with(EntryType::Regular, "../../../blobs/escaped", ""),
        with(EntryType::Link, "passwd", "../../../../../../../../etc/passwd"),
        with(EntryType::Char, "zero", ""),
        with(EntryType::new(b'Z'), "what", ""),
    ] {
        let registry = HostileRegistry::serve(&image, |_| {});
        let cause = refused(&registry).await;
        assert!(matches!(cause, TransferError::Unpack { .. }), "{cause:?}");
    }
    // A configuration that promises other uncompressed content than the layer has.
    let mut lie = two_layers();
    lie.config = ImageBuilder::empty().file("x", "").layer().file("y", "").build().config;
    let mut manifest: Value = serde_json::from_slice(&lie.manifest.bytes).unwrap();
    manifest["config"]["digest"] = json!(lie.config.digest);
    manifest["config"]["size"] = json!(lie.config.bytes.len());
    lie.manifest = Blob::new(&lie.manifest.media_type, serde_json::to_vec(&manifest).unwrap());
    let registry = HostileRegistry::serve(&lie, |_| {});
    let cause = refused(&registry).await;
    let TransferError::Unpack { source: UnpackError::WrongDigest { actual }, layer } = cause else {
        panic!("{cause:?}")
    };
    assert_ne!(actual, layer);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_passed_on_and_cut_short() {
    let answer = |status: u16, body: &str| {
        HostileRegistry::serve(&two_layers(), |answers| {
            answers.insert(MANIFEST.to_owned(), Answer { status, ..Answer::ok(body.as_bytes().to_vec()) });
        })
    };
    let cause = refused(&answer(429, "slow\ndown")).await;
    assert_eq!(cause.to_string(), "the answer was HTTP 429: slow down");
    let cause = refused(&answer(503, &"x".repeat(100_000))).await;
    assert!(cause.to_string().len() < 300, "{cause}");
    assert!(matches!(refused(&answer(403, "")).await, TransferError::Unauthorized));
}

#[tokio::test(flavor = "multi_thread")]
async fn anonymous_tokens_are_fetched_once_and_sent() {
    // The server can't look at tokens; that it gives none is enough to see the whole way there and back.
    let image = two_layers();
    let registry = HostileRegistry::serve(&image, |answers| {
        let challenge = "Bearer realm=\"http://127.0.0.1:1/token\",service=\"s\"".to_owned();
        let headers = vec![("WWW-Authenticate".to_owned(), challenge)];
        answers.insert(MANIFEST.to_owned(), Answer { status: 401, headers, ..Answer::ok(Vec::new()) });
    });
    assert!(matches!(refused(&registry).await, TransferError::Unauthorized));
}
