//! Which names the store has: in memory for readers, in `references.json` for the next start.
//! A name whose content is damaged or gone is left out, so that it is simply pulled again.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    sync::{Arc, PoisonError, RwLock},
};

use hypercore_model::{Digest, ImageReference, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Image, OpenError, TransferError, content::Document, layout::Layout};

/// Version of the file's format.
const VERSION: u32 = 1;

/// The names of a store. Clones share one list.
#[derive(Debug, Clone)]
pub(super) struct References {
    layout: Layout,
    images: Arc<RwLock<BTreeMap<ImageReference, Image>>>,
    /// Held while the file is being written.
    writer: Arc<std::sync::Mutex<()>>,
}

/// `references.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    images: BTreeMap<ImageReference, Record>,
}

/// One name in it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    digest: Digest,
    created_at_ms: Timestamp,
}

impl References {
    /// Reads the file; none is an empty list. Blocks.
    ///
    /// # Errors
    /// [`OpenError`] when it can't be read or was written by something else.
    pub(super) fn open(layout: &Layout) -> Result<Self, OpenError> {
        let path = layout.references();
        let file = match fs::read(&path) {
            Ok(content) => serde_json::from_slice(&content)
                .map_err(|source| OpenError::Damaged { path: path.clone(), source })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                File { version: VERSION, images: BTreeMap::new() }
            }
            Err(source) => return Err(OpenError::Read { path, source }),
        };
        if file.version != VERSION {
            return Err(OpenError::Version { path, version: file.version });
        }
        let mut images = BTreeMap::new();
        for (reference, Record { digest, created_at_ms }) in file.images {
            match load(layout, &reference, digest, created_at_ms) {
                Ok(image) => drop(images.insert(reference, image)),
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(%reference, error, "an image is incomplete and has to be pulled again");
                }
            }
        }
        Ok(Self { layout: layout.clone(), images: Arc::new(RwLock::new(images)), writer: Arc::default() })
    }

    /// The image of that name.
    pub(super) fn get(&self, reference: &ImageReference) -> Option<Image> {
        self.read(|images| images.get(reference).cloned())
    }

    /// The image of a manifest that a name may have meant before. Blocks.
    ///
    /// # Errors
    /// [`TransferError`] when something of it is gone.
    pub(super) fn unnamed(&self, reference: &ImageReference, digest: Digest) -> Result<Image, TransferError> {
        load(&self.layout, reference, digest, Timestamp::from_unix_ms(0))
    }

    /// All images, ordered by name.
    pub(super) fn list(&self) -> Vec<Image> {
        self.read(|images| images.values().cloned().collect())
    }

    /// Manifests that have a name.
    pub(super) fn manifests(&self) -> BTreeSet<Digest> {
        self.read(|images| images.values().map(|image| image.digest).collect())
    }

    /// Gives a manifest, whose content is complete and pinned, a name. One that it has already keeps its time. Blocks.
    pub(super) fn put(
        &self,
        reference: &ImageReference,
        digest: Digest,
        now: Timestamp,
    ) -> Result<Image, TransferError> {
        if let Some(present) = self.get(reference).filter(|image| image.digest == digest) {
            return Ok(present);
        }
        let image = load(&self.layout, reference, digest, now)?;
        let put = |images: &mut BTreeMap<_, _>| drop(images.insert(reference.clone(), image.clone()));
        self.change(put).map_err(TransferError::store("write its list of references"))?;
        Ok(image)
    }

    /// Forgets a name; says whether it was there. Blocks.
    pub(super) fn remove(&self, reference: &ImageReference) -> io::Result<bool> {
        if self.get(reference).is_none() {
            return Ok(false);
        }
        self.change(|images| drop(images.remove(reference))).map(|()| true)
    }

    /// Writes the changed list, and shows it to readers when it is on the disk.
    fn change(&self, change: impl FnOnce(&mut BTreeMap<ImageReference, Image>)) -> io::Result<()> {
        let _held = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = self.read(BTreeMap::clone);
        change(&mut changed);
        let record = |image: &Image| Record { digest: image.digest, created_at_ms: image.created_at };
        let images = changed.iter().map(|(reference, image)| (reference.clone(), record(image))).collect();
        self.layout.write_references(&serde_json::to_vec_pretty(&File { version: VERSION, images })?)?;
        *self.images.write().unwrap_or_else(PoisonError::into_inner) = changed;
        Ok(())
    }

    fn read<T>(&self, read: impl FnOnce(&BTreeMap<ImageReference, Image>) -> T) -> T {
        read(&self.images.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Puts an image together from its blobs, and checks that its layers are there. They were verified when they came.
fn load(
    layout: &Layout,
    reference: &ImageReference,
    digest: Digest,
    created_at: Timestamp,
) -> Result<Image, TransferError> {
    let read = |digest: &Digest| fs::read(layout.blob(digest)).map_err(TransferError::store("read a blob"));
    let document = read(&digest)?;
    let Document::Manifest(manifest) = Document::parse(&document).map_err(TransferError::Malformed)? else {
        return Err(TransferError::NotFound);
    };
    let (config, mut diff_ids) = manifest.parse_config(&read(&manifest.config.digest)?)?;
    // overlayfs refuses a directory given twice. Of equal layers the uppermost decides, so it alone is kept.
    let mut seen = BTreeSet::new();
    diff_ids.reverse();
    diff_ids.retain(|diff_id| seen.insert(*diff_id));
    diff_ids.reverse();
    let layers: Vec<_> = diff_ids.iter().map(|diff_id| layout.layer(diff_id)).collect();
    for layer in &layers {
        fs::metadata(layer).map_err(TransferError::store("find a layer"))?;
    }
    Ok(Image {
        reference: reference.clone(),
        digest,
        size_bytes: manifest.size_bytes() + document.len() as u64,
        created_at,
        config: Arc::new(config),
        layers,
    })
}
