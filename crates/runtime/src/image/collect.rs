//! Deletes content that nothing needs: neither a name, nor a workload, nor a pull that is under way.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hypercore_model::Digest;

use super::{
    RemoveError,
    content::Document,
    layout::{Layout, Temporary},
};

/// Digests that must not be deleted now, with how many need each. Clones share one set.
#[derive(Debug, Clone, Default)]
pub(super) struct Pins(Arc<Mutex<BTreeMap<Digest, usize>>>);

/// Keeps its digests pinned until it is dropped.
#[derive(Debug)]
pub(super) struct Pinned {
    pins: Pins,
    digests: Vec<Digest>,
}

impl Pins {
    /// Protects content before its presence is looked at; blob digests and diff_ids alike.
    pub(super) fn pin(&self, digests: impl Iterator<Item = Digest>) -> Pinned {
        let mut pinned = Pinned { pins: self.clone(), digests: Vec::new() };
        pinned.add(digests);
        pinned
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Digest, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pinned {
    /// Protects more.
    pub(super) fn add(&mut self, digests: impl Iterator<Item = Digest>) {
        let mut counts = self.pins.lock();
        for digest in digests {
            *counts.entry(digest).or_default() += 1;
            self.digests.push(digest);
        }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let mut counts = self.pins.lock();
        for digest in &self.digests {
            if let Some(count) = counts.get_mut(digest) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(digest);
                }
            }
        }
    }
}

/// Deletes all blobs and layers but those pinned and those of the manifests that `needed_manifests` tells: it is asked
/// when no pull can begin or end, so that none falls between its pins and its name. Returns the freed bytes. Blocks.
///
/// # Errors
/// [`RemoveError::Store`]; what was deleted until then stays deleted.
pub(super) fn collect(
    layout: &Layout,
    pins: &Pins,
    needed_manifests: impl FnOnce() -> BTreeSet<Digest>,
) -> Result<u64, RemoveError> {
    let failed = |step| move |source| RemoveError::Store { step, source };
    let garbage = {
        let pinned = pins.lock();
        let manifests = needed_manifests();
        let mut needed: BTreeSet<_> =
            manifests.iter().flat_map(|manifest| content_of(layout, manifest)).collect();
        needed.extend(manifests);
        let is_needed = |digest: &Digest| needed.contains(digest) || pinned.contains_key(digest);
        let mut garbage = take_away(layout, &layout.blobs(), is_needed).map_err(failed("set blobs aside"))?;
        garbage.extend(take_away(layout, &layout.layers(), is_needed).map_err(failed("set layers aside"))?);
        let notes = take_away(layout, &layout.all_verified(), is_needed);
        garbage.extend(notes.map_err(failed("set notes on signatures aside"))?);
        let machines = take_away_of_machines(layout, is_needed);
        garbage.extend(machines.map_err(failed("set the images of microVMs aside"))?);
        garbage
    };
    let deleted = garbage.into_iter().map(Temporary::delete);
    deleted.sum::<std::io::Result<u64>>().map_err(failed("delete what nothing needs"))
}

/// Digests of the configuration, the blobs and the diff_ids of a manifest. A manifest that isn't there needs nothing.
fn content_of(layout: &Layout, manifest: &Digest) -> Vec<Digest> {
    let Ok(bytes) = fs::read(layout.blob(manifest)) else { return Vec::new() };
    let Ok(Document::Manifest(manifest)) = Document::parse(&bytes) else { return Vec::new() };
    let mut digests: Vec<_> = manifest.layers.iter().map(|layer| layer.digest).collect();
    digests.push(manifest.config.digest);
    let config = fs::read(layout.blob(&manifest.config.digest)).unwrap_or_default();
    if let Ok((_, diff_ids)) = manifest.parse_config(&config) {
        digests.extend(diff_ids);
    }
    digests
}

/// Renames what isn't needed into `temporary/`, where not even a crash keeps it.
fn take_away(
    layout: &Layout,
    directory: &Path,
    is_needed: impl Fn(&Digest) -> bool,
) -> std::io::Result<Vec<Temporary>> {
    let mut garbage = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let digest = entry.file_name().to_str().and_then(|hex| format!("sha256:{hex}").parse().ok());
        if digest.as_ref().is_some_and(&is_needed) {
            continue;
        }
        let temporary = layout.temporary();
        fs::rename(entry.path(), temporary.path())?;
        garbage.push(temporary);
    }
    Ok(garbage)
}

/// Renames the filesystems of images that aren't needed into `temporary/`. A machine that runs from one, or a snapshot
/// that has it, keeps it until its end. What is named after no image stays.
fn take_away_of_machines(
    layout: &Layout,
    is_needed: impl Fn(&Digest) -> bool,
) -> std::io::Result<Vec<Temporary>> {
    let entries = match fs::read_dir(layout.machines()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut garbage = Vec::new();
    for entry in entries {
        let entry = entry?;
        let digest = entry.file_name().to_str().and_then(image_of);
        if digest.is_some_and(|digest| !is_needed(&digest)) {
            let temporary = layout.temporary();
            fs::rename(entry.path(), temporary.path())?;
            garbage.push(temporary);
        }
    }
    Ok(garbage)
}

/// The manifest that a file of microVMs is named after: `sha256-<hex>.ext4`, and the note of what it is.
fn image_of(name: &str) -> Option<Digest> {
    let (stem, _) = name.strip_suffix(".seal").unwrap_or(name).split_once(".ext4")?;
    stem.replacen('-', ":", 1).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pinned_content_outlives_a_collection_but_not_its_last_pin() {
        let place = tempfile::tempdir().unwrap();
        let layout = Layout::open(place.path()).unwrap();
        let [blob, layer, garbage] = [1, 2, 3].map(|byte| Digest::from_sha256([byte; 32]));
        fs::write(layout.blob(&blob), "blob").unwrap();
        fs::create_dir(layout.layer(&layer)).unwrap();
        fs::write(layout.blob(&garbage), vec![1; 10_000]).unwrap();
        fs::write(layout.blobs().join("not a digest"), "").unwrap();

        let pins = Pins::default();
        let mut first = pins.pin([blob].into_iter());
        first.add([layer].into_iter());
        let second = pins.pin([blob].into_iter());
        let collect = || collect(&layout, &pins, BTreeSet::new).unwrap();
        let machines = layout.machines();
        fs::create_dir(&machines).unwrap();
        for name in [blob, garbage].map(|digest| digest.to_string().replace(':', "-")) {
            for end in ["ext4", "ext4.seal"] {
                fs::write(machines.join(format!("{name}.{end}")), "filesystem").unwrap();
            }
        }
        fs::write(machines.join("empty-1.ext4"), "of no image").unwrap();
        assert!(collect() >= 10_000);
        assert_eq!(fs::read_dir(&machines).unwrap().count(), 3, "an image's filesystem is there without it");
        let present = || [layout.blob(&blob), layout.layer(&layer)].map(|path| path.exists());
        assert_eq!(present(), [true, true]);
        drop(first);
        collect();
        assert_eq!(present(), [true, false]);
        drop(second);
        collect();
        assert_eq!(present(), [false, false]);
        assert_eq!(fs::read_dir(layout.blobs()).unwrap().count(), 0);
        assert_eq!(fs::read_dir(&machines).unwrap().count(), 1);
    }
}
