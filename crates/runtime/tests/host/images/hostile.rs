//! Pulls from registries that lie, break off or flood. Each is refused by name, and nothing of it is visible after.

use hypercore_fixtures::{Blob, ImageBuilder, Layer, OciImage, Registry, skip_without_root};
use hypercore_runtime::image::{ContentError, TransferError, UnpackError};
use serde_json::{Value, json};
use tar::EntryType;

use super::{
    Store, cause,
    server::{Answer, MANIFEST, Server, blob_path},
    two_layers,
};

/// Pulls, which must fail and leave nothing, and returns why.
async fn refused(registry: &Server) -> TransferError {
    let store = Store::new();
    let error = store.pull(&registry.reference()).await.unwrap_err();
    store.assert_nothing_new();
    cause(error, &registry.reference())
}

/// The same manifest with something changed.
fn changed_manifest(image: &OciImage, change: impl FnOnce(&mut Value)) -> Server {
    let mut manifest: Value = serde_json::from_slice(&image.manifest.bytes).unwrap();
    change(&mut manifest);
    let manifest = serde_json::to_vec(&manifest).unwrap();
    Server::serve(image, |script| {
        script.set(MANIFEST, [Answer::ok(manifest)]);
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn content_with_a_wrong_digest_is_refused() {
    if skip_without_root("content_with_a_wrong_digest_is_refused") {
        return;
    }
    let image = two_layers();
    for blob in image.content() {
        let registry = Server::serve(&image, |script| {
            script.get(&blob_path(blob)).body[10] ^= 1;
        });
        let cause = refused(&registry).await;
        let TransferError::DigestMismatch { expected, actual } = cause else { panic!("{cause:?}") };
        assert_eq!(expected.to_string(), blob.digest);
        assert_ne!(actual, expected);
    }
    let announced = Server::serve(&image, |script| {
        let other = format!("sha256:{}", "0".repeat(64));
        script.get(MANIFEST).headers.push(("Docker-Content-Digest".to_owned(), other));
    });
    assert!(matches!(refused(&announced).await, TransferError::DigestMismatch { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_was_damaged_in_a_real_registry_is_refused() {
    if skip_without_root("a_layer_that_was_damaged_in_a_real_registry_is_refused") {
        return;
    }
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
    if skip_without_root("a_truncated_layer_is_told_with_its_sizes") {
        return;
    }
    let image = two_layers();
    let layer = &image.layers[0];
    for length in [layer.bytes.len(), layer.bytes.len() - 7] {
        let registry = Server::serve(&image, |script| {
            let answer = script.get(&blob_path(layer));
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
    if skip_without_root("floods_are_cut_off") {
        return;
    }
    let image = two_layers();
    let endless = |path: String| {
        Server::serve(&image, |script| {
            let body = vec![b' '; 65536];
            script.set(&path, [Answer { length: usize::MAX >> 1, is_endless: true, ..Answer::ok(body) }]);
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
    type Change = (&'static str, fn(&mut Value));
    let changes: [Change; 9] = [
        ("layers and diff_ids differ", |it| drop(it["layers"].as_array_mut().unwrap().pop())),
        ("no layers", |it| it["layers"] = json!([])),
        ("an artifact", |it| it["config"]["mediaType"] = json!("application/x")),
        ("a foreign layer", |it| it["layers"][0]["mediaType"] = json!("application/x")),
        ("docker's schema 1", |it| {
            it["mediaType"] = json!("application/vnd.docker.distribution.manifest.v1+json")
        }),
        ("a path as digest", |it| it["layers"][0]["digest"] = json!("sha256:../../etc")),
        ("another algorithm", |it| it["layers"][0]["digest"] = json!(format!("sha512:{}", "0".repeat(128)))),
        ("a giant layer", |it| it["layers"][0]["size"] = json!(u64::MAX)),
        ("a thousand layers", |it| it["layers"] = json!(vec![it["layers"][0].clone(); 1000])),
    ];
    for (what, change) in changes {
        let cause = refused(&changed_manifest(&image, change)).await;
        assert!(matches!(cause, TransferError::Malformed(_)), "{what}: {cause:?}");
    }
    let no_json = Server::serve(&image, |script| script.set(MANIFEST, [Answer::ok(b"<html>".to_vec())]));
    assert!(matches!(refused(&no_json).await, TransferError::Malformed(ContentError::Json { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_lead_only_to_what_they_promise() {
    let image = two_layers();
    let other_content = Server::serve(&image, |script| {
        script.set(MANIFEST, [Answer::ok(OciImage::index(&[&image]).bytes)]);
        script.set(&format!("/v2/app/manifests/{}", image.digest()), [Answer::ok(b"{}".to_vec())]);
    });
    let cause = refused(&other_content).await;
    assert!(matches!(cause, TransferError::DigestMismatch { .. }), "{cause:?}");

    let nested = Server::serve(&image, |script| {
        let mut inner = image.clone();
        for _ in 0..5 {
            script.set(
                &format!("/v2/app/manifests/{}", inner.digest()),
                [Answer::ok(inner.manifest.bytes.clone())],
            );
            inner.manifest = OciImage::index(&[&inner]);
        }
        script.set(MANIFEST, [Answer::ok(inner.manifest.bytes)]);
    });
    let cause = refused(&nested).await;
    assert!(matches!(cause, TransferError::Malformed(ContentError::TooDeep)), "{cause:?}");
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
        let registry = Server::serve(&image, |_| {});
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
    let registry = Server::serve(&lie, |_| {});
    let cause = refused(&registry).await;
    let TransferError::Unpack { source: UnpackError::WrongDigest { actual }, layer } = cause else {
        panic!("{cause:?}")
    };
    assert_ne!(actual, layer);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_passed_on_and_cut_short() {
    let answer = |status: u16, body: &str| {
        Server::serve(&two_layers(), |script| {
            script.set(MANIFEST, [Answer { status, ..Answer::ok(body.as_bytes().to_vec()) }]);
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
    if skip_without_root("anonymous_tokens_are_fetched_once_and_sent") {
        return;
    }
    let image = two_layers();
    let registry = Server::serve(&image, |script| {
        let challenge = format!("Bearer realm=\"{}/token\",service=\"s\"", script.url);
        let headers = vec![("WWW-Authenticate".to_owned(), challenge)];
        let manifest = script.get(MANIFEST).clone();
        script.set(MANIFEST, [Answer { status: 401, headers, ..Answer::ok(Vec::new()) }, manifest]);
        script.set("/token", [Answer::ok(br#"{"token":"for-everybody"}"#.to_vec())]);
    });
    Store::new().pull(&registry.reference()).await.unwrap();
    let requests = registry.requests();
    assert_eq!(requests.iter().filter(|request| request.contains("/token?service=s&scope=")).count(), 1);
    let with_token =
        requests.iter().filter(|request| request.contains("authorization: Bearer for-everybody"));
    assert_eq!(with_token.count(), 1 + image.content().count(), "{requests:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn registries_whose_tokens_cannot_be_had_deny_access() {
    let image = two_layers();
    for challenge in ["Bearer realm=\"http://127.0.0.1:1/token\"", "Basic realm=\"people with passwords\""] {
        let registry = Server::serve(&image, |script| {
            let headers = vec![("WWW-Authenticate".to_owned(), challenge.to_owned())];
            script.set(MANIFEST, [Answer { status: 401, headers, ..Answer::ok(Vec::new()) }]);
        });
        assert!(matches!(refused(&registry).await, TransferError::Unauthorized));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_breaks_off_is_taken_up_where_it_broke() {
    if skip_without_root("a_blob_that_breaks_off_is_taken_up_where_it_broke") {
        return;
    }
    let image = two_layers();
    let layer = &image.layers[0];
    for knows_ranges in [true, false] {
        let registry = Server::serve(&image, |script| {
            let whole = script.get(&blob_path(layer)).clone();
            let mut cut = whole.clone();
            cut.body.truncate(50);
            let rest = Answer { status: 206, ..Answer::ok(layer.bytes[50..].to_vec()) };
            script.set(&blob_path(layer), [cut, if knows_ranges { rest } else { whole }]);
        });
        let pulled = Store::new().pull(&registry.reference()).await.unwrap();
        assert_eq!(pulled.digest.to_string(), image.digest());
        let ranges =
            registry.requests().iter().filter(|request| request.contains("range: bytes=50-")).count();
        assert_eq!(ranges, 1);
    }
}
