//! Removal: what nothing needs goes, what something needs stays, and crashes leave nothing behind.

use std::{collections::BTreeSet, fs};

use hypercore_fixtures::{ImageBuilder, OciImage, skip_without_root};
use hypercore_runtime::image::{Image, InUse, OpenError, PruneScope, RemoveError};

use super::{Store, parsed};

pub(crate) async fn import(store: &Store, image: &OciImage, name: &str) -> Image {
    let place = tempfile::tempdir().unwrap();
    image.write_layout(place.path(), name).unwrap();
    store.images.import(place.path(), None).await.unwrap().remove(0)
}

fn sharing(content: &str) -> OciImage {
    ImageBuilder::empty().file("base", vec![1; 100_000]).layer().file("own", content).build()
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_layers_stay_until_the_last_image_goes() {
    if skip_without_root("shared_layers_stay_until_the_last_image_goes") {
        return;
    }
    let store = Store::new();
    let (one, two) = (import(&store, &sharing("1"), "one").await, import(&store, &sharing("2"), "two").await);
    import(&store, &sharing("1"), "alias").await;

    assert_eq!(
        store.images.remove(&one.reference, false, InUse::default).await.unwrap(),
        0,
        "the alias needs it all"
    );
    let freed = store.images.remove(&parsed("alias"), false, InUse::default).await.unwrap();
    assert!((1..100_000).contains(&freed), "its own layer and documents: {freed}");
    assert!(two.layers.iter().all(|layer| layer.is_dir()));
    let freed = store.images.remove(&two.reference, false, InUse::default).await.unwrap();
    assert!(freed >= 100_000, "{freed}");
    for directory in ["blobs/sha256", "layers", "temporary"] {
        assert_eq!(store.names(directory), [""; 0]);
    }
    let error = store.images.remove(&two.reference, false, InUse::default).await.unwrap_err();
    assert!(matches!(error, RemoveError::NotFound { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_workloads_use_stays() {
    if skip_without_root("what_workloads_use_stays") {
        return;
    }
    let store = Store::new();
    let image = import(&store, &sharing("1"), "app").await;
    let digest = image.digest;
    let by_content = move || InUse { manifests: BTreeSet::from([digest]), ..InUse::default() };
    let reference = image.reference.clone();
    let by_name = move || InUse { names: BTreeSet::from([reference.clone()]), ..InUse::default() };
    for refused in [
        store.images.remove(&image.reference, false, by_content).await,
        store.images.remove(&image.reference, false, by_name).await,
    ] {
        assert!(matches!(refused, Err(RemoveError::InUse { .. })), "{refused:?}");
        assert!(store.images.get(&image.reference).is_some());
    }
    assert_eq!(store.images.remove(&image.reference, true, by_content).await.unwrap(), 0);
    assert!(store.images.get(&image.reference).is_none());
    assert!(image.layers.iter().all(|layer| layer.is_dir()));
    let nameless = PruneScope::Nameless;
    assert_eq!(store.images.prune(nameless, by_content).await.unwrap().freed_bytes, 0);
    assert!(store.images.prune(nameless, InUse::default).await.unwrap().freed_bytes > 0);
    assert!(!image.layers.iter().any(|layer| layer.exists()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_start_sweeps_and_forgets_what_is_damaged() {
    if skip_without_root("the_next_start_sweeps_and_forgets_what_is_damaged") {
        return;
    }
    let store = Store::new();
    let (one, two) = (import(&store, &sharing("1"), "one").await, import(&store, &sharing("2"), "two").await);
    let temporary = store.directory.path().join("temporary");
    fs::create_dir_all(temporary.join("7/half/a/layer")).unwrap();
    fs::write(temporary.join("8"), "half a blob").unwrap();
    fs::remove_dir_all(&one.layers[1]).unwrap();
    let reopened = store.reopened();
    assert_eq!(store.names("temporary"), [""; 0]);
    assert!(reopened.get(&one.reference).is_none(), "its layer is gone");
    assert_eq!(reopened.get(&two.reference).unwrap().digest, two.digest);

    fs::write(store.directory.path().join("references.json"), "{}").unwrap();
    let error = hypercore_runtime::image::ImageStore::open(store.directory.path()).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
}
