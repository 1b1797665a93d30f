//! A small tmpfs that fills up: the error says so, what was written stays, and writing goes on once there is room.

use std::path::Path;

use hypercore_store::{Batch, WriteError};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    unistd::geteuid,
};

/// A mounted tmpfs, unmounted when the test is done with it.
struct Tmpfs<'a>(&'a Path);

impl<'a> Tmpfs<'a> {
    fn mount(at: &'a Path, options: &str) -> Self {
        mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some(options)).unwrap();
        Self(at)
    }
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        let _ = umount2(self.0, MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_full_disk_is_told_and_the_store_goes_on_once_there_is_room() {
    if !geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let _tmpfs = Tmpfs::mount(directory.path(), "size=16m,mode=0700");
    let store = super::open(&directory.path().join("node.redb"));
    let ballast = directory.path().join("ballast");
    std::fs::write(&ballast, vec![0; 8 * 1024 * 1024]).unwrap();

    let mut written = 0u32;
    let error = loop {
        let mut batch = Batch::new();
        batch.put("test/rows", written.to_be_bytes(), vec![1; 64 * 1024]);
        match store.write(&batch) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 1000, "the disk never fills");
    };
    assert!(matches!(error, WriteError::DiskFull(_)), "{error:?}");
    assert_eq!(store.scan("test/rows", &[]).unwrap().len() as u32, written);

    std::fs::remove_file(&ballast).unwrap();
    let mut batch = Batch::new();
    batch.put("test/rows", written.to_be_bytes(), vec![1; 64 * 1024]);
    store.write(&batch).unwrap();
    drop(store);
    let store = super::open(&directory.path().join("node.redb"));
    assert_eq!(store.scan("test/rows", &[]).unwrap().len() as u32, written + 1);
}
