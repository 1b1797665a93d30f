//! What overlayfs makes of unpacked layers: the merged tree is the image that its builder meant.

use std::{
    fs,
    path::{Path, PathBuf},
};

use hypercore_fixtures::{ImageBuilder, Layer, skip_without_root};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

use super::{Store, read};

/// Layers stacked read-only; unmounted when dropped.
struct Merged {
    directory: TempDir,
}

impl Merged {
    fn mount(layers: &[PathBuf]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let lower: Vec<_> = layers.iter().rev().map(|layer| layer.to_str().unwrap()).collect();
        let options = format!("lowerdir={}", lower.join(":"));
        mount(Some("overlay"), directory.path(), Some("overlay"), MsFlags::MS_RDONLY, Some(options.as_str()))
            .unwrap();
        Self { directory }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn names(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path().join(directory)).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Merged {
    fn drop(&mut self) {
        umount2(self.directory.path(), MntFlags::MNT_DETACH).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn removals_and_replacements_look_as_they_were_built() {
    if skip_without_root("removals_and_replacements_look_as_they_were_built") {
        return;
    }
    let mut upper = Layer::new();
    upper.whiteout("etc/removed").whiteout("gone").opaque("emptied").file("emptied/new", 0o644, b"new");
    upper.file("etc/changed", 0o644, b"upper").file("became-file", 0o644, b"file");
    upper.whiteout("reborn").dir("reborn", 0o755).file("reborn/new", 0o644, b"new");
    let lower = ImageBuilder::empty()
        .file("etc/removed", "lower")
        .file("etc/changed", "lower")
        .file("etc/kept", "lower")
        .file("gone/file", "lower")
        .file("emptied/old", "lower")
        .file("became-file/old", "lower")
        .file("reborn/old", "lower");
    let place = tempfile::tempdir().unwrap();
    lower.push_layer(upper).build().write_layout(place.path(), "app").unwrap();
    let store = Store::new();
    let images = store.images.import(place.path(), None).await.unwrap();

    let merged = Merged::mount(&images[0].layers);
    assert_eq!(merged.names(""), ["became-file", "emptied", "etc", "reborn"]);
    assert_eq!(merged.names("etc"), ["changed", "kept"]);
    assert_eq!(merged.names("emptied"), ["new"]);
    assert_eq!(merged.names("reborn"), ["new"]);
    assert_eq!(read(&merged.path().join("etc/changed")), "upper");
    assert_eq!(read(&merged.path().join("became-file")), "file");
}
