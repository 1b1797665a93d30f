//! Imports from OCI layouts and docker-archives, as directories and as files.

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use hypercore_fixtures::{ImageBuilder, Layer, OciImage, skip_without_root};
use hypercore_runtime::image::{ImportError, TransferError};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Store, parsed, read, two_layers};

#[tokio::test(flavor = "multi_thread")]
async fn directories_and_archives_bring_the_same_image() {
    if skip_without_root("directories_and_archives_bring_the_same_image") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let made = two_layers();
    made.write_layout(&place.path().join("layout"), "team/app:1").unwrap();
    made.write_archive(&place.path().join("app.tar"), "team/app:1").unwrap();
    for path in ["layout", "app.tar"] {
        let store = Store::new();
        let images = store.images.import(&place.path().join(path), None).await.unwrap();
        let [image] = &images[..] else { panic!("one image: {images:?}") };
        assert_eq!(image.reference, parsed("docker.io/team/app:1"));
        assert_eq!(image.digest.to_string(), made.digest());
        assert_eq!(read(&image.layers[0].join("etc/motd")), "hello");
        assert_eq!(store.reopened().get(&image.reference).unwrap().layers, image.layers);

        let renamed = store.images.import(&place.path().join(path), Some(&parsed("mine:2"))).await.unwrap();
        assert_eq!(renamed[0].reference, parsed("mine:2"));
        assert_eq!(store.images.list().len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_images_come_under_their_names_and_platforms() {
    if skip_without_root("several_images_come_under_their_names_and_platforms") {
        return;
    }
    let (store, layout) = (Store::new(), tempfile::tempdir().unwrap());
    let image = |content: &str| ImageBuilder::empty().file("f", content).build();
    let (one, two, foreign) =
        (image("1"), image("2"), ImageBuilder::empty().file("f", "3").architecture("s390x").build());
    write_index(
        &layout,
        &[(&one, Some("one:1"), None), (&foreign, Some("two"), Some("s390x")), (&two, Some("two"), None)],
    );
    let images = store.images.import(layout.path(), None).await.unwrap();
    let found: Vec<_> =
        images.iter().map(|image| (image.reference.familiar(), image.digest.to_string())).collect();
    let expected = [("one:1", one.digest()), ("two:latest", two.digest())];
    assert_eq!(found, expected.map(|(name, digest)| (name.to_owned(), digest.to_owned())));

    let error = store.images.import(layout.path(), Some(&parsed("both:1"))).await.unwrap_err();
    assert!(matches!(error, ImportError::Reference { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_archives_bring_an_image_under_all_its_names() {
    if skip_without_root("docker_archives_bring_an_image_under_all_its_names") {
        return;
    }
    let (store, place) = (Store::new(), tempfile::tempdir().unwrap());
    let made = two_layers();
    let path = write_docker_archive(
        &place,
        &made,
        &["1/layer.tar", "2/layer.tar"],
        json!(["app:1", "team/app:latest"]),
    );
    let images = store.images.import(&path, None).await.unwrap();
    let names: Vec<_> = images.iter().map(|image| image.reference.familiar()).collect();
    assert_eq!(names, ["app:1", "team/app:latest"]);
    assert_eq!(images[0].digest, images[1].digest);
    assert_eq!(read(&images[0].layers[0].join("etc/motd")), "hello");
    assert_eq!(store.reopened().list().len(), 2);

    for layers in [&["../outside", "2/layer.tar"][..], &["1/layer.tar"]] {
        let path = write_docker_archive(&place, &made, layers, json!(["x"]));
        let error = store.images.import(&path, None).await.unwrap_err();
        let ImportError::Transfer { cause: TransferError::Malformed(_), .. } = error else {
            panic!("{error:?}")
        };
    }
    let path = write_docker_archive(&place, &made, &["1/layer.tar"], Value::Null);
    let nameless = store.images.import(&path, None).await.unwrap_err();
    assert!(matches!(nameless, ImportError::Reference { .. }), "{nameless:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nameless_images_need_a_name() {
    if skip_without_root("nameless_images_need_a_name") {
        return;
    }
    let (store, layout) = (Store::new(), tempfile::tempdir().unwrap());
    let image = two_layers();
    for name in [None, Some("Not A Name")] {
        write_index(&layout, &[(&image, name, None)]);
        let error = store.images.import(layout.path(), None).await.unwrap_err();
        assert!(matches!(error, ImportError::Reference { .. }) && error.hint().contains("--as"), "{error:?}");
    }
    store.assert_nothing_new();
    let named = store.images.import(layout.path(), Some(&parsed("mine:1"))).await.unwrap();
    assert_eq!(named[0].digest.to_string(), image.digest());
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_layouts_are_refused_by_what_is_wrong() {
    let store = Store::new();
    let made = two_layers();
    let layout = |damage: &dyn Fn(&std::path::Path)| {
        let layout = tempfile::tempdir().unwrap();
        made.write_layout(layout.path(), "app:1").unwrap();
        damage(layout.path());
        layout
    };
    let blob = made.layers[0].digest.replace(':', "/");
    let in_blob = |change: &dyn Fn(&std::path::Path)| layout(&|root| change(&root.join("blobs").join(&blob)));
    let transfer = async |layout: &TempDir| match store.images.import(layout.path(), None).await {
        Err(ImportError::Transfer { cause, .. }) => cause,
        other => panic!("{other:?}"),
    };

    let flipped = in_blob(&|path| {
        let mut bytes = fs::read(path).unwrap();
        bytes[15] ^= 1;
        fs::write(path, bytes).unwrap();
    });
    assert!(matches!(transfer(&flipped).await, TransferError::DigestMismatch { .. }));
    let short = in_blob(&|path| fs::write(path, b"short").unwrap());
    assert!(matches!(transfer(&short).await, TransferError::Truncated { received_bytes: 5, .. }));
    let gone = in_blob(&|path| fs::remove_file(path).unwrap());
    assert!(matches!(transfer(&gone).await, TransferError::NotFound));
    let link = in_blob(&|path| {
        fs::remove_file(path).unwrap();
        symlink("/etc/passwd", path).unwrap();
    });
    assert!(matches!(transfer(&link).await, TransferError::Store { .. }), "a link could lead anywhere");
    let pipe = in_blob(&|path| {
        fs::remove_file(path).unwrap();
        nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    });
    assert!(matches!(transfer(&pipe).await, TransferError::NotFound), "opening a pipe would wait forever");
    let garbage = layout(&|root| fs::write(root.join("index.json"), "{").unwrap());
    assert!(matches!(transfer(&garbage).await, TransferError::Malformed(_)));
    store.assert_nothing_new();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_image_is_said_so() {
    let (store, place) = (Store::new(), tempfile::tempdir().unwrap());
    fs::create_dir(place.path().join("empty")).unwrap();
    fs::write(place.path().join("text"), "no tar, but longer than one header".repeat(100)).unwrap();
    for path in ["empty", "text"] {
        let error = store.images.import(&place.path().join(path), None).await.unwrap_err();
        assert!(matches!(error, ImportError::NotAnImage { .. }), "{path}: {error:?}");
        assert!(error.to_string().contains(path) && !error.hint().is_empty());
    }
    let error = store.images.import(&place.path().join("missing"), None).await.unwrap_err();
    assert!(matches!(error, ImportError::Unreadable { .. }), "{error:?}");
}

/// An image as older docker saves it, which says that its layers are those.
fn write_docker_archive(place: &TempDir, image: &OciImage, layers: &[&str], tags: Value) -> PathBuf {
    let mut archive = Layer::new();
    archive.file("config.json", 0o644, &image.config.bytes);
    for (number, layer) in (1..).zip(&image.layers) {
        archive.file(&format!("{number}/layer.tar"), 0o644, &layer.bytes);
    }
    let index = json!([{ "Config": "config.json", "RepoTags": tags, "Layers": layers }]);
    archive.file("manifest.json", 0o644, index.to_string().as_bytes());
    let path = place.path().join("saved.tar");
    fs::write(&path, archive.into_bytes()).unwrap();
    path
}

/// A layout with these images, each with a name and an architecture other than its own.
fn write_index(layout: &TempDir, images: &[(&OciImage, Option<&str>, Option<&str>)]) {
    let mut entries = Vec::new();
    for (image, name, architecture) in images {
        image.write_layout(layout.path(), "unused").unwrap();
        let mut entry = json!({
            "mediaType": image.manifest.media_type,
            "digest": image.digest(),
            "size": image.manifest.bytes.len(),
        });
        if let Some(name) = name {
            entry["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
        }
        if let Some(architecture) = architecture {
            entry["platform"] = json!({ "architecture": architecture, "os": "linux" });
        }
        entries.push(entry);
    }
    let index: Value = json!({ "schemaVersion": 2, "manifests": entries });
    fs::write(layout.path().join("index.json"), index.to_string()).unwrap();
}
