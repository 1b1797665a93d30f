//! A disk that fills while an image comes in: a clear error, nothing left of it, and the same pull works once there is
//! room.

use std::{fs, path::Path};

use hypercore_fixtures::{ImageBuilder, skip_without_root};
use hypercore_runtime::image::{ImageStore, TransferError};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

use super::{Store, cause, prune::incompressible, server::Server};

/// A file system in memory; unmounted when dropped.
pub(crate) struct SmallDisk {
    place: TempDir,
}

impl SmallDisk {
    pub(crate) fn mount(mebibytes: u32) -> Self {
        let place = tempfile::tempdir().unwrap();
        let options = format!("size={mebibytes}m");
        mount(Some("tmpfs"), place.path(), Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).unwrap();
        Self { place }
    }

    pub(crate) fn resize(&self, mebibytes: u32) {
        let options = format!("size={mebibytes}m");
        let none: Option<&Path> = None;
        mount(none, self.place.path(), none, MsFlags::MS_REMOUNT, Some(options.as_str())).unwrap();
    }

    pub(crate) fn store(&self) -> Store {
        let _already_set = rustls::crypto::ring::default_provider().install_default();
        let directory = tempfile::tempdir_in(self.place.path()).unwrap();
        let images = ImageStore::open(directory.path()).unwrap();
        Store { directory, images }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        umount2(self.place.path(), MntFlags::MNT_DETACH).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_ends_the_pull_and_the_next_one_works() {
    if skip_without_root("a_disk_that_fills_ends_the_pull") {
        return;
    }
    // 64 MiB are always left free. The first image is too large as it comes, the second only when it is unpacked.
    let too_large = ImageBuilder::empty().file("content", incompressible(30 * 1024 * 1024, 1)).build();
    let too_large_unpacked = ImageBuilder::empty().file("zeros", vec![0; 60 * 1024 * 1024]).build();
    for image in [too_large, too_large_unpacked] {
        let disk = SmallDisk::mount(80);
        let store = disk.store();
        let registry = Server::serve(&image, |_| {});
        let error = store.pull(&registry.reference()).await.unwrap_err();
        assert!(error.hint().contains("free space"), "{}", error.hint());
        let cause = cause(error, &registry.reference());
        assert!(matches!(cause, TransferError::DiskFull(_)), "{cause:?}");
        store.assert_nothing_new();
        assert_eq!(store.names("layers"), [""; 0]);

        disk.resize(200);
        store.pull(&registry.reference()).await.unwrap();
        assert_eq!(store.images.list().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_another_filled_to_the_last_byte_keeps_the_store_readable() {
    if skip_without_root("a_disk_that_another_filled_to_the_last_byte") {
        return;
    }
    let disk = SmallDisk::mount(100);
    let store = disk.store();
    let image = ImageBuilder::empty().file("small", "content").build();
    let registry = Server::serve(&image, |_| {});
    let pulled = store.pull(&registry.reference()).await.unwrap();
    let ballast = disk.place.path().join("ballast");
    let filled = fs::write(&ballast, vec![1; 100 * 1024 * 1024]);
    assert!(filled.is_err(), "the disk is full to the brim");

    let other = ImageBuilder::empty().file("other", "content").build();
    let registry = Server::serve(&other, |_| {});
    let cause = cause(store.pull(&registry.reference()).await.unwrap_err(), &registry.reference());
    assert!(matches!(cause, TransferError::DiskFull(_)), "{cause:?}");
    assert_eq!(store.reopened().get(&pulled.reference).unwrap().digest, pulled.digest);
    fs::remove_file(ballast).unwrap();
    store.pull(&registry.reference()).await.unwrap();
}
