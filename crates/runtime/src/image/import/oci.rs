//! Finds the images of an OCI image layout (OCI image spec, image-layout.md).

use std::collections::BTreeMap;

use hypercore_model::Digest;
use oci_spec::image::{Descriptor, ImageIndex};

use super::{Blobs, Content, Found, Opened};
use crate::image::{
    TransferError,
    content::{ContentError, Document, choose_platform, json},
    download::digest_of,
    files::ImageFiles,
};

/// Annotation with an image's name or tag (OCI image spec, annotations.md).
const NAME_ANNOTATION: &str = "org.opencontainers.image.ref.name";
/// Annotation with an image's full name, which docker and containerd write beside the tag.
const FULL_NAME_ANNOTATION: &str = "io.containerd.image.name";
/// Indexes that may lead to one another before a manifest comes.
const INDEX_DEPTH_MAX: usize = 3;

/// Reads the index; its entries of one name are one image for several platforms. Blocks.
pub(super) fn find(files: &ImageFiles) -> Result<Vec<Found>, TransferError> {
    let index = files.read("its index", "index.json")?;
    let index: ImageIndex = json("its index", &index).map_err(TransferError::Malformed)?;
    let mut images: BTreeMap<Option<&str>, Vec<Descriptor>> = BTreeMap::new();
    for entry in index.manifests() {
        let annotations = entry.annotations().as_ref();
        let annotation = |key| annotations.and_then(|all| all.get(key)).map(String::as_str);
        let name = annotation(FULL_NAME_ANNOTATION).or_else(|| annotation(NAME_ANNOTATION));
        images.entry(name).or_default().push(entry.clone());
    }
    let found = |(name, entries): (Option<&str>, _)| Found {
        name: name.map(str::to_owned),
        content: Content::Oci(entries),
    };
    Ok(images.into_iter().map(found).collect())
}

/// Follows indexes to the manifest for this machine. Blocks.
pub(super) fn open(files: ImageFiles, entries: &[Descriptor]) -> Result<Opened, TransferError> {
    let mut expected = choose_platform(entries.iter())?;
    for _ in 0..INDEX_DEPTH_MAX {
        let document = files.read("its manifest", &blob_name(&expected))?;
        let digest = digest_of(&document);
        if digest != expected {
            return Err(TransferError::DigestMismatch { expected, actual: digest });
        }
        match Document::parse(&document).map_err(TransferError::Malformed)? {
            Document::Manifest(manifest) => {
                return Ok(Opened { digest, document, manifest, blobs: Blobs { files, names: Vec::new() } });
            }
            Document::Index(entries) => expected = choose_platform(entries.iter())?,
        }
    }
    Err(TransferError::Malformed(ContentError::TooDeep))
}

/// The file of a blob.
pub(super) fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
