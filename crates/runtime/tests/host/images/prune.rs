//! Prune and garbage collection: the least recently used goes first, and nothing that is in use, leased or on its way in
//! goes at all, whatever happens at the same time.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use hypercore_fixtures::{ImageBuilder, OciImage, Registry, skip_without_root};
use hypercore_runtime::image::{DiskMarks, InUse, PruneScope, RegistrySettings, RemoveError};

use super::{Store, full_disk::SmallDisk, parsed, remove::import};

fn small(content: &str) -> OciImage {
    ImageBuilder::empty().file("base", vec![1; 100_000]).layer().file("own", content).build()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prune_takes_what_has_no_name_and_all_of_it_what_nothing_uses() {
    if skip_without_root("a_prune_takes_what_has_no_name") {
        return;
    }
    let store = Store::new();
    let old = import(&store, &small("old"), "moved").await;
    import(&store, &small("new"), "moved").await;
    let used = import(&store, &small("used"), "used").await;
    let idle = import(&store, &small("idle"), "idle").await;
    let digest = used.digest;
    let in_use = move || InUse { manifests: BTreeSet::from([digest]), ..InUse::default() };

    let pruned = store.images.prune(PruneScope::Nameless, in_use).await.unwrap();
    assert!(pruned.removed.is_empty() && pruned.freed_bytes > 0, "{pruned:?}");
    assert!(!old.layers[1].exists() && idle.layers[1].exists());

    // What is being taken down loses its name and keeps its content.
    let other = import(&store, &small("leaving"), "leaving").await;
    let digest = other.digest;
    let leaving = move || InUse { leaving: BTreeSet::from([digest]), ..InUse::default() };
    store.images.remove(&other.reference, false, leaving).await.unwrap();
    assert!(other.layers[1].is_dir() && store.images.get(&other.reference).is_none());

    let leased = store.images.lease(&idle.reference).await.unwrap();
    let pruned = store.images.prune(PruneScope::Unused, in_use).await.unwrap();
    assert_eq!(pruned.removed, [parsed("moved")]);
    assert_eq!(leased.digest, idle.digest);
    let refused = store.images.remove(&idle.reference, false, InUse::default).await;
    assert!(matches!(refused, Err(RemoveError::InUse { .. })), "{refused:?}");
    drop(leased);
    let pruned = store.images.prune(PruneScope::Unused, in_use).await.unwrap();
    assert_eq!(pruned.removed, [idle.reference]);
    assert!(used.layers.iter().all(|layer| layer.is_dir()) && !idle.layers[1].exists());
    assert_eq!(store.images.list().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_loses_the_least_recently_used_images_until_there_is_room() {
    if skip_without_root("a_full_disk_loses_the_least_recently_used_images") {
        return;
    }
    let disk = SmallDisk::mount(200);
    let store = disk.store();
    // Four images of 10 % of the disk each: 5 % as blob and 5 % unpacked.
    let mut images = Vec::new();
    for number in 0..4u8 {
        let content: Vec<u8> = incompressible(10 * 1024 * 1024, number);
        let image = ImageBuilder::empty().file("content", content).build();
        images.push(import(&store, &image, &format!("image:{number}")).await);
    }
    let roomy = DiskMarks { high_percent: 85, low_percent: 75 };
    assert_eq!(store.images.make_room(roomy, InUse::default).await.unwrap(), None);

    // The oldest is used again, the second is in use: the third and fourth are what may go.
    drop(store.images.lease(&images[0].reference).await.unwrap());
    let digest = images[1].digest;
    let in_use = move || InUse { manifests: BTreeSet::from([digest]), ..InUse::default() };
    let tight = DiskMarks { high_percent: 35, low_percent: 32 };
    let pruned = store.images.make_room(tight, in_use).await.unwrap().unwrap();
    assert_eq!(pruned.removed, [images[2].reference.clone()]);
    assert!(pruned.freed_bytes >= 20 * 1024 * 1024, "{pruned:?}");
    let none = DiskMarks { high_percent: 1, low_percent: 0 };
    let pruned = store.images.make_room(none, in_use).await.unwrap().unwrap();
    assert_eq!(pruned.removed, [images[3].reference.clone(), images[0].reference.clone()]);
    assert!(images[1].layers[0].is_dir());
}

#[tokio::test(flavor = "multi_thread")]
async fn pruning_all_the_time_breaks_no_pull_and_takes_no_leased_image() {
    if skip_without_root("pruning_all_the_time_breaks_no_pull") {
        return;
    }
    let (registry, store) = (Registry::start().unwrap(), Store::new());
    let names = ["a", "b", "c"].map(|name| registry.push(&small(name), &format!("{name}:1")).unwrap());
    let is_over = Arc::new(AtomicBool::new(false));
    let pruner = {
        let (images, is_over) = (store.images.clone(), Arc::clone(&is_over));
        async move {
            let mut prunes = 0u32;
            while !is_over.load(Ordering::SeqCst) {
                images.prune(PruneScope::Unused, InUse::default).await.unwrap();
                prunes += 1;
            }
            prunes
        }
    };
    let user = async |name: &str| {
        for _ in 0..20 {
            let image = loop {
                store.images.pull(&parsed(name), &RegistrySettings::default(), &|_| {}).await.unwrap();
                if let Some(leased) = store.images.lease(&parsed(name)).await {
                    break leased;
                }
            };
            for layer in &image.layers {
                assert!(std::fs::read_dir(layer).unwrap().count() > 0);
            }
            tokio::task::yield_now().await;
            assert!(image.layers.iter().all(|layer| layer.is_dir()), "a leased image was taken");
        }
    };
    let users = async {
        tokio::join!(user(&names[0]), user(&names[1]), user(&names[2]));
        is_over.store(true, Ordering::SeqCst);
    };
    let (prunes, ()) = tokio::join!(pruner, users);
    assert!(prunes > 0);
    store.images.prune(PruneScope::Unused, InUse::default).await.unwrap();
    for directory in ["blobs/sha256", "layers", "temporary", "verified"] {
        assert_eq!(store.names(directory), [""; 0], "{directory}");
    }
}

/// Bytes that no compression makes smaller, the same each time.
pub(crate) fn incompressible(len: usize, seed: u8) -> Vec<u8> {
    let mut state = u64::from(seed) * 2 + 0x9e37_79b9_7f4a_7c15;
    let mut next = || {
        // xorshift64*, Vigna 2016
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8
    };
    std::iter::repeat_with(&mut next).take(len).collect()
}
