//! Imports images from an OCI image layout: finds the images and their names in its index, and brings them in.

use std::{collections::BTreeMap, path::Path};

use hypercore_model::{Digest, ImageReference};
use oci_spec::image::{Descriptor, ImageIndex};

use super::{
    Image, ImageStore, ImportError, TransferError,
    blocking::blocking,
    content::{ContentError, Document, Manifest, choose_platform, json},
    download::digest_of,
    oci_layout::{NoLayout, OciLayout, blob_name},
};

/// Annotation with an image's name or tag (OCI image spec, annotations.md).
const NAME_ANNOTATION: &str = "org.opencontainers.image.ref.name";
/// Annotation with an image's full name, which docker and containerd write beside the tag.
const FULL_NAME_ANNOTATION: &str = "io.containerd.image.name";
/// Indexes that may lead to one another before a manifest comes.
const INDEX_DEPTH_MAX: usize = 3;
/// Most images of one layout.
const IMAGES_COUNT_MAX: usize = 1000;

/// Images of an index that share a name: one per platform.
struct Named<'a> {
    reference: ImageReference,
    entries: Vec<&'a Descriptor>,
}

impl ImageStore {
    /// Brings all images of an OCI layout directory or oci-archive into the store, under the names in their
    /// `org.opencontainers.image.ref.name` annotations, or its single image under `rename`. Images before one that
    /// fails are kept.
    ///
    /// # Errors
    /// [`ImportError`], which names the path.
    pub async fn import(
        &self,
        path: &Path,
        rename: Option<&ImageReference>,
    ) -> Result<Vec<Image>, ImportError> {
        let transfer = |cause| ImportError::Transfer { path: path.to_owned(), cause };
        let layout = {
            let path = path.to_owned();
            blocking(move || Ok(OciLayout::open(&path))).await.map_err(transfer)?
        };
        let layout = layout.map_err(|error| match error {
            NoLayout::Unreadable(source) => ImportError::Unreadable { path: path.to_owned(), source },
            NoLayout::Other(why) => ImportError::NotAnImage { path: path.to_owned(), why },
        })?;
        let index = read(&layout, "its index", "index.json".to_owned()).await.map_err(transfer)?;
        let index: ImageIndex =
            json("its index", &index).map_err(TransferError::Malformed).map_err(transfer)?;
        let named = name_images(index.manifests(), rename)
            .map_err(|why| ImportError::Reference { path: path.to_owned(), why })?;
        let mut images = Vec::new();
        for image in named {
            images.push(self.import_image(&layout, &image).await.map_err(transfer)?);
        }
        Ok(images)
    }

    async fn import_image(&self, layout: &OciLayout, image: &Named<'_>) -> Result<Image, TransferError> {
        let (digest, document, manifest) =
            resolve(layout, choose_platform(image.entries.iter().copied())?).await?;
        let _pinned = self.inner.ingest.run(layout, digest, &document, &manifest, &|_| {}).await?;
        self.put_name(&image.reference, digest).await
    }
}

/// Follows indexes to the manifest for this machine.
async fn resolve(layout: &OciLayout, first: Digest) -> Result<(Digest, Vec<u8>, Manifest), TransferError> {
    let mut expected = first;
    for _ in 0..INDEX_DEPTH_MAX {
        let document = read(layout, "its manifest", blob_name(&expected)).await?;
        let actual = digest_of(&document);
        if actual != expected {
            return Err(TransferError::DigestMismatch { expected, actual });
        }
        match Document::parse(&document).map_err(TransferError::Malformed)? {
            Document::Manifest(manifest) => return Ok((actual, document, manifest)),
            Document::Index(entries) => expected = choose_platform(entries.iter())?,
        }
    }
    Err(TransferError::Malformed(ContentError::TooDeep))
}

async fn read(layout: &OciLayout, what: &'static str, name: String) -> Result<Vec<u8>, TransferError> {
    let layout = layout.clone();
    blocking(move || layout.read(what, &name)).await
}

/// Groups the entries of an index by name.
///
/// # Errors
/// What can't be named, as a sentence.
fn name_images<'a>(
    entries: &'a [Descriptor],
    rename: Option<&ImageReference>,
) -> Result<Vec<Named<'a>>, String> {
    let mut groups: BTreeMap<Option<&str>, Vec<&Descriptor>> = BTreeMap::new();
    for entry in entries {
        let annotations = entry.annotations().as_ref();
        let annotation = |key| annotations.and_then(|all| all.get(key)).map(String::as_str);
        groups
            .entry(annotation(FULL_NAME_ANNOTATION).or_else(|| annotation(NAME_ANNOTATION)))
            .or_default()
            .push(entry);
    }
    let count = groups.len();
    if count == 0 {
        return Err("it has no images".to_owned());
    }
    if count > IMAGES_COUNT_MAX {
        return Err(format!("it has more than {IMAGES_COUNT_MAX} images"));
    }
    if rename.is_some() && count > 1 {
        return Err(format!("one name was given for its {count} images"));
    }
    let name = |(name, entries): (Option<&str>, _)| {
        let reference = match (rename, name) {
            (Some(rename), _) => rename.clone(),
            (None, Some(name)) => name.parse().map_err(|error| format!("its name is not usable: {error}"))?,
            (None, None) => return Err("it has an image without a name".to_owned()),
        };
        Ok(Named { reference, entries })
    };
    groups.into_iter().map(name).collect()
}
