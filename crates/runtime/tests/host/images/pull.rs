//! Pulls from Debian's docker-registry.

use std::{net::TcpListener, os::unix::fs::FileTypeExt, time::Duration};

use hypercore_fixtures::{Compression, ImageBuilder, Registry, skip_without_root, wait_until};
use hypercore_runtime::image::{Image, PullStep, RegistrySettings, TransferError};

use super::{Store, cause, last_steps, parsed, read, two_layers};

#[tokio::test(flavor = "multi_thread")]
async fn a_pulled_image_is_ready_to_run_and_still_there_after_a_restart() {
    if skip_without_root("a_pulled_image_is_ready_to_run") {
        return;
    }
    let (registry, store) = (Registry::start().unwrap(), Store::new());
    let made = two_layers();
    let reference = registry.push(&made, "team/app:1").unwrap();
    let (image, steps) = store.pull_watched(&reference).await;

    assert_eq!(
        (image.reference.to_string(), image.digest.to_string()),
        (reference.clone(), made.digest().to_owned())
    );
    let blobs = made.content().chain([&made.manifest]);
    assert_eq!(image.size_bytes, blobs.map(|blob| blob.bytes.len() as u64).sum::<u64>());
    let config = image.config.config().as_ref().unwrap();
    assert_eq!(config.entrypoint().as_deref().unwrap(), ["/app/run"]);
    assert_eq!(config.env().as_deref().unwrap(), ["KEY=value"]);
    let [lower, upper] = &image.layers[..] else { panic!("two layers: {:?}", image.layers) };
    assert_eq!(read(&lower.join("etc/motd")), "hello");
    assert_eq!(read(&upper.join("app/run")), "#!/bin/sh\n");
    assert!(upper.join("etc/old").symlink_metadata().unwrap().file_type().is_char_device());

    assert_eq!(last_steps(&steps), [PullStep::Done, PullStep::Done]);
    assert!(steps.iter().all(|step| step.received_bytes <= step.total_bytes));
    assert!(
        steps
            .iter()
            .any(|step| step.step == PullStep::Downloading && step.received_bytes == step.total_bytes)
    );
    assert_eq!(store.names("temporary"), [""; 0]);
    for images in [store.images.clone(), store.reopened()] {
        let found = images.get(&parsed(&reference)).unwrap();
        assert_eq!(
            (found.digest, found.created_at, &found.layers),
            (image.digest, image.created_at, &image.layers)
        );
        assert_eq!(images.list().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_are_shared_and_come_once() {
    if skip_without_root("layers_are_shared_and_come_once") {
        return;
    }
    let (registry, store) = (Registry::start().unwrap(), Store::new());
    let base = || ImageBuilder::empty().file("base", vec![7; 300_000]).layer();
    let (one, two) = (base().file("one", "1").build(), base().file("two", "2").build());
    let (one_name, two_name) = (registry.push(&one, "one:1").unwrap(), registry.push(&two, "two:1").unwrap());

    let (first, second) = tokio::join!(store.pull(&one_name), store.pull(&two_name));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(first.layers[0], second.layers[0]);
    assert_eq!(store.names("layers").len(), 3);
    let fetched = || {
        let log = registry.log();
        let is_base = |line: &&str| line.contains("method=GET") && line.contains(&one.layers[0].digest);
        log.lines().filter(|line| line.contains("response completed")).filter(is_base).count()
    };
    // The registry writes its log after it answered.
    assert_eq!(wait_until(Duration::from_secs(20), || Some(fetched()).filter(|&count| count > 0)), Some(1));

    let (again, steps) = store.pull_watched(&one_name).await;
    assert_eq!(last_steps(&steps), [PullStep::Present, PullStep::Present]);
    assert_eq!(again.created_at, first.created_at);
}

#[tokio::test(flavor = "multi_thread")]
async fn compressions_mix_and_equal_layers_stack_once() {
    if skip_without_root("compressions_mix_and_equal_layers_stack_once") {
        return;
    }
    let (registry, store) = (Registry::start().unwrap(), Store::new());
    let twice = |compression| {
        let image =
            ImageBuilder::empty().file("same", "1").layer().file("other", "2").layer().file("same", "1");
        image.compression(compression).build()
    };
    let plain = store.pull(&registry.push(&twice(Compression::None), "plain:1").unwrap()).await.unwrap();
    for (compression, name) in [(Compression::Gzip, "gzip:1"), (Compression::Zstd, "zstd:1")] {
        // A store of its own: otherwise the layers would be there already.
        let pulled = Store::new().pull(&registry.push(&twice(compression), name).unwrap()).await.unwrap();
        assert_ne!(plain.digest, pulled.digest);
        let names = |image: &Image| -> Vec<_> {
            image.layers.iter().map(|layer| layer.file_name().unwrap().to_owned()).collect()
        };
        assert_eq!(names(&plain), names(&pulled), "layers are known by their uncompressed content");
    }
    let [other, same] = &plain.layers[..] else { panic!("each once: {:?}", plain.layers) };
    assert!(other.join("other").exists() && same.join("same").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_leads_to_the_image_of_this_machine() {
    if skip_without_root("an_index_leads_to_the_image_of_this_machine") {
        return;
    }
    let (registry, store) = (Registry::start().unwrap(), Store::new());
    let image = |arch: &str| ImageBuilder::empty().file("arch", arch).architecture(arch).build();
    let own = ImageBuilder::empty().file("arch", "own").build();
    let both = registry.push_index(&[&image("s390x"), &own], "both:1").unwrap();
    assert_eq!(store.pull(&both).await.unwrap().digest.to_string(), own.digest());

    for name in [
        registry.push_index(&[&image("s390x"), &image("riscv64")], "foreign:1").unwrap(),
        registry.push(&image("s390x"), "single:1").unwrap(),
    ] {
        let cause = cause(store.pull(&name).await.unwrap_err(), &name);
        let TransferError::NoPlatform { wanted, available } = cause else { panic!("{cause:?}") };
        assert!(wanted.starts_with("linux/") && available.contains("linux/s390x"), "{wanted} {available}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_pins_the_content() {
    if skip_without_root("a_digest_pins_the_content") {
        return;
    }
    let (registry, store) = (Registry::start().unwrap(), Store::new());
    let made = two_layers();
    registry.push(&made, "app:1").unwrap();
    let pinned = registry.reference(&format!("app@{}", made.digest()));
    assert_eq!(store.pull(&pinned).await.unwrap().digest.to_string(), made.digest());
    let other = registry.reference(&format!("app@sha256:{}", "0".repeat(64)));
    assert!(matches!(cause(store.pull(&other).await.unwrap_err(), &other), TransferError::NotFound));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_closed_or_silent_is_told_apart() {
    let (registry, store) = (Registry::start().unwrap(), Store::new());
    let unknown = registry.reference("no/such:image");
    assert!(matches!(cause(store.pull(&unknown).await.unwrap_err(), &unknown), TransferError::NotFound));

    let closed = Registry::start_with_login().unwrap();
    let private = closed.reference("private:1");
    assert!(matches!(cause(store.pull(&private).await.unwrap_err(), &private), TransferError::Unauthorized));

    let free_port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = format!("{free_port}/app:1");
    assert!(matches!(cause(store.pull(&nobody).await.unwrap_err(), &nobody), TransferError::Unreachable(_)));
    store.assert_nothing_new();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_serves_docker_hub_and_a_dead_one_is_passed_over() {
    if skip_without_root("a_mirror_serves_docker_hub") {
        return;
    }
    let (registry, store) = (Registry::start().unwrap(), Store::new());
    let made = two_layers();
    registry.push(&made, "library/web:1").unwrap();
    let free_port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mirrors = vec![format!("http://{free_port}"), registry.address().to_owned()];
    let settings = RegistrySettings { mirrors, ..RegistrySettings::default() };
    let pulled = store.images.pull(&parsed("web:1"), &settings, &|_| {}).await.unwrap();
    assert_eq!(pulled.source, registry.address());
    assert_eq!(pulled.image.digest.to_string(), made.digest());
    assert!(store.images.get(&parsed("docker.io/library/web:1")).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_tag_brings_the_new_image() {
    if skip_without_root("a_moved_tag_brings_the_new_image") {
        return;
    }
    let (registry, store) = (Registry::start().unwrap(), Store::new());
    let name = registry.push(&ImageBuilder::empty().file("v", "1").build(), "app:latest").unwrap();
    let old = store.pull(&name).await.unwrap();
    let new = ImageBuilder::empty().file("v", "2").build();
    registry.push(&new, "app:latest").unwrap();
    assert_eq!(store.images.get(&parsed(&name)).unwrap().digest, old.digest);
    assert_eq!(store.pull(&name).await.unwrap().digest.to_string(), new.digest());
    assert_eq!(store.images.list().len(), 1);
}
