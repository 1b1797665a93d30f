//! The many forms that honest images come in: each is pulled as what it is.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
};

use flate2::{Compression as Level, write::GzEncoder};
use hypercore_fixtures::{Blob, ImageBuilder, Layer, OciImage, Registry, skip_without_root};
use hypercore_runtime::image::{ContentError, TransferError, UnpackError};
use serde_json::{Value, json};

use super::{
    Store, cause, read,
    server::{Answer, MANIFEST, Server},
    two_layers,
};

/// The same image with one of its layers stored in other bytes.
fn restored(mut image: OciImage, layer: usize, bytes: Vec<u8>) -> OciImage {
    let blob = Blob::new(&image.layers[layer].media_type.clone(), bytes);
    let mut manifest: Value = serde_json::from_slice(&image.manifest.bytes).unwrap();
    manifest["layers"][layer]["digest"] = json!(blob.digest);
    manifest["layers"][layer]["size"] = json!(blob.bytes.len());
    image.layers[layer] = blob;
    image.manifest = Blob::new(&image.manifest.media_type, serde_json::to_vec(&manifest).unwrap());
    image
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Level::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn attestations_in_an_index_are_passed_over() {
    if skip_without_root("attestations_in_an_index_are_passed_over") {
        return;
    }
    let foreign = ImageBuilder::empty().file("f", "").architecture("s390x").build();
    let image = two_layers();
    let serve = |image: &OciImage, index: Blob| {
        Server::serve(image, |script| {
            script.set(MANIFEST, [Answer::ok(index.bytes)]);
            let manifest = format!("/v2/app/manifests/{}", image.digest());
            script.set(&manifest, [Answer::ok(image.manifest.bytes.clone())]);
        })
    };
    let registry = serve(&image, OciImage::index_with_attestations(&[&foreign, &image]));
    let pulled = Store::new().pull(&registry.reference()).await.unwrap();
    assert_eq!(pulled.digest.to_string(), image.digest());

    let registry = serve(&foreign, OciImage::index_with_attestations(&[&foreign]));
    let error = cause(Store::new().pull(&registry.reference()).await.unwrap_err(), &registry.reference());
    let TransferError::NoPlatform { available, .. } = error else { panic!("{error:?}") };
    assert_eq!(available, "linux/s390x", "attestations are no platform");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_of_several_gzip_members_is_one_layer() {
    if skip_without_root("a_layer_of_several_gzip_members_is_one_layer") {
        return;
    }
    let mut layer = Layer::new();
    layer.file("one", 0o644, b"1").file("two", 0o644, &[7; 100_000]);
    let tar = layer.into_bytes();
    let mut layer = Layer::new();
    layer.file("one", 0o644, b"1").file("two", 0o644, &[7; 100_000]);
    let image = ImageBuilder::empty().push_layer(layer).build();
    // Members end where it pleases their writer, also in the middle of a header.
    let members = [&tar[..300], &tar[300..700], &tar[700..]].map(gzip).concat();
    let image = restored(image, 0, members);
    let registry = Server::serve(&image, |_| {});
    let pulled = Store::new().pull(&registry.reference()).await.unwrap();
    assert_eq!(pulled.digest.to_string(), image.digest());
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_and_repeated_layers_are_no_trouble() {
    if skip_without_root("empty_and_repeated_layers_are_no_trouble") {
        return;
    }
    let (registry, store) = (Registry::start().unwrap(), Store::new());
    let image =
        ImageBuilder::empty().layer().file("same", "1").layer().layer().file("same", "1").layer().build();
    let pulled = store.pull(&registry.push(&image, "empty:1").unwrap()).await.unwrap();
    assert_eq!(pulled.layers.len(), 2, "one that is empty, one that isn't");
    assert!(pulled.layers.iter().any(|layer| fs::read_dir(layer).unwrap().count() == 0));
    assert!(pulled.layers.iter().any(|layer| layer.join("same").exists()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hard_link_to_a_lower_layer_is_refused_by_name() {
    if skip_without_root("a_hard_link_to_a_lower_layer_is_refused_by_name") {
        return;
    }
    let mut upper = Layer::new();
    upper.hardlink("again", "etc/motd");
    let image = ImageBuilder::empty().file("etc/motd", "lower").push_layer(upper).build();
    let registry = Server::serve(&image, |_| {});
    let store = Store::new();
    let error = cause(store.pull(&registry.reference()).await.unwrap_err(), &registry.reference());
    let TransferError::Unpack { source: source @ UnpackError::Write { .. }, .. } = error else {
        panic!("{error:?}")
    };
    let message = source.to_string();
    assert!(message.contains("again") && message.contains("the same layer"), "{message}");
    store.assert_nothing_new();

    // As honest builders write it: the layer carries the file that it links to.
    let mut upper = Layer::new();
    upper.file("etc/motd", 0o644, b"upper").hardlink("again", "etc/motd");
    let image = ImageBuilder::empty().file("etc/motd", "lower").push_layer(upper).build();
    let registry = Server::serve(&image, |_| {});
    let store = Store::new();
    let pulled = store.pull(&registry.reference()).await.unwrap();
    assert_eq!(read(&pulled.layers[1].join("again")), "upper");
    assert_eq!(fs::metadata(pulled.layers[1].join("again")).unwrap().nlink(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_that_promise_the_impossible_are_refused_before_anything_else_is_asked_for() {
    let image = two_layers();
    let mut promise: Value = serde_json::from_slice(&image.manifest.bytes).unwrap();
    let layer = promise["layers"][0].clone();
    let mut many = promise.clone();
    many["layers"] = json!(vec![layer; 10_000]);
    promise["config"]["size"] = json!(1u64 << 30);
    for manifest in [many, promise] {
        let registry = Server::serve(&image, |script| {
            script.set(MANIFEST, [Answer::ok(serde_json::to_vec(&manifest).unwrap())]);
        });
        let store = Store::new();
        let error = cause(store.pull(&registry.reference()).await.unwrap_err(), &registry.reference());
        let is_told = matches!(
            error,
            TransferError::Malformed(
                ContentError::TooManyLayers { count: 10_000 } | ContentError::TooLarge { .. }
            )
        );
        assert!(is_told, "{error:?}");
        assert_eq!(registry.requests().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_breaks_again_and_again_still_arrives() {
    if skip_without_root("a_download_that_breaks_again_and_again_still_arrives") {
        return;
    }
    let image = ImageBuilder::empty().file("content", super::prune::incompressible(400_000, 3)).build();
    let layer = &image.layers[0].bytes;
    let registry = Server::serve(&image, |script| {
        let part = |begin: usize, end: usize| Answer {
            status: if begin == 0 { 200 } else { 206 },
            body: layer[begin..end].to_vec(),
            length: layer.len() - begin,
            ..Answer::ok(Vec::new())
        };
        let path = super::server::blob_path(&image.layers[0]);
        // A proxy that says that the registry restarts is asked again.
        let away = Answer { status: 503, ..Answer::ok(Vec::new()) };
        script.set(&path, [part(0, 100_000), away, part(100_000, 250_000), part(250_000, layer.len())]);
    });
    Store::new().pull(&registry.reference()).await.unwrap();
    let ranges: Vec<_> = registry
        .requests()
        .iter()
        .filter_map(|request| {
            request.lines().find_map(|line| line.strip_prefix("range: ")).map(str::to_owned)
        })
        .collect();
    assert_eq!(ranges, ["bytes=100000-", "bytes=100000-", "bytes=250000-"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_names_survive_the_whole_way() {
    if skip_without_root("odd_names_survive_the_whole_way") {
        return;
    }
    let deep = format!("{}/leaf", "directory-with-a-long-name/".repeat(12));
    let image = ImageBuilder::empty().file(&deep, "deep").file("with\nnewline and\ttab", "odd").build();
    let registry = Server::serve(&image, |_| {});
    let store = Store::new();
    let pulled = store.pull(&registry.reference()).await.unwrap();
    assert_eq!(read(&pulled.layers[0].join(deep)), "deep");
    assert_eq!(read(&pulled.layers[0].join(OsStr::from_bytes(b"with\nnewline and\ttab"))), "odd");
}
