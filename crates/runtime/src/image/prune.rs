//! Removes images: one by name, those that nothing uses, or the least recently used when the disk fills.
//!
//! What is in use is asked of the caller at the last moment, under the same lock as leases: a workload that begins to
//! start either has its lease by then, or finds no image and pulls it again. It never takes an image that is leased,
//! in use, or on its way in.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use hypercore_model::{Digest, ImageReference};

use super::{Image, ImageStore, Inner, RemoveError, blocking::blocking, collect::collect};

/// What workloads need, whether they run or not.
#[derive(Debug, Clone, Default)]
pub struct InUse {
    /// Names that workloads were given: they are looked up again when one starts again.
    pub names: BTreeSet<ImageReference>,
    /// Manifests that workloads were made of: their names may mean something else by now.
    pub manifests: BTreeSet<Digest>,
    /// Manifests of workloads that are being taken down: their names may go, their content may not yet.
    pub leaving: BTreeSet<Digest>,
}

/// How much a prune takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PruneScope {
    /// Content without a name: what a tag meant before it moved, layers of pulls that failed.
    Nameless,
    /// That, and every image that no workload uses.
    Unused,
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Names that are gone, in the order they were removed.
    pub removed: Vec<ImageReference>,
    /// Bytes of disk that became free.
    pub freed_bytes: u64,
}

/// When the disk counts as full, and when as empty enough again; in percent, `low` at most `high`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskMarks {
    /// Above this, images are removed.
    pub high_percent: u8,
    /// Until it is at most this.
    pub low_percent: u8,
}

/// Manifests that are about to be used, with how many need each. Clones share one set.
#[derive(Debug, Clone, Default)]
pub(super) struct Leases(Arc<Mutex<BTreeMap<Digest, usize>>>);

/// An image that stays until this is dropped, whatever becomes of its name.
#[derive(Debug)]
pub struct ImageLease {
    image: Image,
    leases: Leases,
}

impl ImageStore {
    /// The image of that name, for as long as the lease is held. Counts as a use of it.
    pub async fn lease(&self, reference: &ImageReference) -> Option<ImageLease> {
        let (inner, reference) = (Arc::clone(&self.inner), reference.clone());
        let leased = blocking(move || Ok::<_, RemoveError>(inner.lease(&reference)));
        // Nothing is leased any more when the node shuts down.
        leased.await.ok().flatten()
    }

    /// The image with that manifest, for as long as the lease is held, whatever `reference` means by now: what a workload
    /// was made of, which its own files lie over. `None` when it is gone.
    pub async fn lease_manifest(&self, reference: &ImageReference, digest: Digest) -> Option<ImageLease> {
        let (inner, reference) = (Arc::clone(&self.inner), reference.clone());
        let leased = blocking(move || Ok::<_, RemoveError>(inner.lease_manifest(&reference, digest)));
        leased.await.ok().flatten()
    }

    /// Forgets a name, and deletes what nothing else needs. Returns the freed bytes of disk.
    ///
    /// An image that a workload uses is refused, unless it `is_forced`: then its name goes, and its content stays for
    /// as long as it is used.
    ///
    /// # Errors
    /// [`RemoveError::NotFound`] for an unknown name, [`RemoveError::InUse`], [`RemoveError::Store`] when the disk
    /// fails.
    pub async fn remove(
        &self,
        reference: &ImageReference,
        is_forced: bool,
        in_use: impl Fn() -> InUse + Send + Sync + 'static,
    ) -> Result<u64, RemoveError> {
        let (inner, name) = (Arc::clone(&self.inner), reference.clone());
        blocking(move || {
            inner.forget(&name, is_forced, &in_use)?;
            inner.collect(&in_use)
        })
        .await
    }

    /// Removes what nothing uses.
    ///
    /// # Errors
    /// [`RemoveError::Store`] when the disk fails; what was removed until then stays removed.
    pub async fn prune(
        &self,
        scope: PruneScope,
        in_use: impl Fn() -> InUse + Send + Sync + 'static,
    ) -> Result<Pruned, RemoveError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let removed = match scope {
                PruneScope::Nameless => Vec::new(),
                PruneScope::Unused => inner.forget_all_unused(&in_use)?,
            };
            Ok(Pruned { removed, freed_bytes: inner.collect(&in_use)? })
        })
        .await
    }

    /// When the store's disk is fuller than the high mark: removes nameless content, then images that nothing uses,
    /// the least recently used first, until it is at most as full as the low mark. `None` when there was no need.
    ///
    /// # Errors
    /// [`RemoveError::Store`] when the disk fails; what was removed until then stays removed.
    pub async fn make_room(
        &self,
        marks: DiskMarks,
        in_use: impl Fn() -> InUse + Send + Sync + 'static,
    ) -> Result<Option<Pruned>, RemoveError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.make_room(marks, &in_use)).await
    }
}

impl Inner {
    fn lease(&self, reference: &ImageReference) -> Option<ImageLease> {
        let image = {
            let mut leases = self.leases.lock();
            let image = self.references.get(reference)?;
            *leases.entry(image.digest).or_default() += 1;
            image
        };
        if let Err(error) = self.layout.touch(&image.digest, SystemTime::now()) {
            tracing::debug!(%error, image = %reference, "can't note that an image is used");
        }
        Some(ImageLease { image, leases: self.leases.clone() })
    }

    fn lease_manifest(&self, reference: &ImageReference, digest: Digest) -> Option<ImageLease> {
        if let Some(lease) = self.lease(reference).filter(|lease| lease.image.digest == digest) {
            return Some(lease);
        }
        // Leased before it is looked at, so that nobody takes it in between.
        *self.leases.lock().entry(digest).or_default() += 1;
        let lease = |image| ImageLease { image, leases: self.leases.clone() };
        match self.references.unnamed(reference, digest) {
            Ok(image) => Some(lease(image)),
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(image = %reference, %digest, error, "what a workload was made of is gone");
                self.leases.give_back(digest);
                None
            }
        }
    }

    /// Forgets one name if that is allowed.
    fn forget(
        &self,
        name: &ImageReference,
        is_forced: bool,
        in_use: &dyn Fn() -> InUse,
    ) -> Result<(), RemoveError> {
        let leases = self.leases.lock();
        let Some(image) = self.references.get(name) else {
            return Err(RemoveError::NotFound { image: Box::new(name.clone()) });
        };
        let is_last = self.references.list().iter().filter(|other| other.digest == image.digest).count() == 1;
        let in_use = in_use();
        let holds_content = in_use.manifests.contains(&image.digest) || leases.contains_key(&image.digest);
        if !is_forced && (in_use.names.contains(name) || is_last && holds_content) {
            return Err(RemoveError::InUse { image: Box::new(name.clone()) });
        }
        self.references.remove(name).map(drop).map_err(write_failed)
    }

    fn forget_all_unused(&self, in_use: &dyn Fn() -> InUse) -> Result<Vec<ImageReference>, RemoveError> {
        let mut removed = Vec::new();
        let mut oldest_first = self.references.list();
        oldest_first.sort_by_key(|image| self.layout.used_at(&image.digest));
        for image in oldest_first {
            if self.forget_unused(&image, in_use)? {
                removed.push(image.reference);
            }
        }
        Ok(removed)
    }

    /// Forgets a name unless somebody needs it; says whether it is gone.
    fn forget_unused(&self, image: &Image, in_use: &dyn Fn() -> InUse) -> Result<bool, RemoveError> {
        let leases = self.leases.lock();
        let in_use = in_use();
        let is_needed = in_use.names.contains(&image.reference)
            || in_use.manifests.contains(&image.digest)
            || leases.contains_key(&image.digest);
        // A pull may have given the name to something newer.
        let is_same =
            self.references.get(&image.reference).is_some_and(|present| present.digest == image.digest);
        if is_needed || !is_same {
            return Ok(false);
        }
        self.references.remove(&image.reference).map_err(write_failed)
    }

    /// Deletes all content that no name, no workload, no lease and no running pull needs.
    fn collect(&self, in_use: &dyn Fn() -> InUse) -> Result<u64, RemoveError> {
        collect(&self.layout, &self.pins, || {
            // Whoever gets a lease later finds a name, and what has a name stays.
            let leases = self.leases.lock();
            let InUse { names: _, mut manifests, leaving } = in_use();
            manifests.extend(leaving);
            manifests.extend(leases.keys().copied());
            manifests.extend(self.references.manifests());
            manifests
        })
    }

    fn make_room(&self, marks: DiskMarks, in_use: &dyn Fn() -> InUse) -> Result<Option<Pruned>, RemoveError> {
        let look = || {
            let step = "look at the room on its disk";
            self.layout.disk_used_percent().map_err(|source| RemoveError::Store { step, source })
        };
        if look()? <= marks.high_percent {
            return Ok(None);
        }
        let mut pruned = Pruned { removed: Vec::new(), freed_bytes: self.collect(in_use)? };
        let mut oldest_first = self.references.list();
        oldest_first.sort_by_key(|image| self.layout.used_at(&image.digest));
        for image in oldest_first {
            if look()? <= marks.low_percent {
                break;
            }
            if self.forget_unused(&image, in_use)? {
                pruned.freed_bytes += self.collect(in_use)?;
                pruned.removed.push(image.reference);
            }
        }
        Ok(Some(pruned))
    }
}

impl Leases {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Digest, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(&self, digest: Digest) {
        let mut leases = self.lock();
        if let Some(count) = leases.get_mut(&digest) {
            *count -= 1;
            if *count == 0 {
                leases.remove(&digest);
            }
        }
    }
}

impl Deref for ImageLease {
    type Target = Image;

    fn deref(&self) -> &Image {
        &self.image
    }
}

impl Drop for ImageLease {
    fn drop(&mut self) {
        self.leases.give_back(self.image.digest);
    }
}

fn write_failed(source: io::Error) -> RemoveError {
    RemoveError::Store { step: "write its list of references", source }
}
