//! Imports images from files: finds out what they are and how they are named, and brings them in.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use hypercore_copy::shown::shown;
use hypercore_model::{Digest, ImageReference, image::ImageNameError};
use oci_spec::image::Descriptor;

use super::{
    Image, ImageStore, ImportError, TransferError,
    blocking::blocking,
    content::{Blob, Manifest},
    download::{BlobSource, BlobStream},
    files::{ImageFiles, NoFiles},
};

mod docker;
mod oci;

/// Most images of one directory or archive.
const IMAGES_COUNT_MAX: usize = 1000;

/// An image that was found, and not read yet.
struct Found {
    /// What it is called in its index.
    name: Option<String>,
    content: Content,
}

/// Where an image's manifest is to come from.
enum Content {
    /// Entries of an index, one per platform.
    Oci(Vec<Descriptor>),
    /// What docker tells in place of a manifest.
    Docker(Arc<docker::Entry>),
}

/// A manifest, and where its blobs are.
struct Opened {
    digest: Digest,
    document: Vec<u8>,
    manifest: Manifest,
    blobs: Blobs,
}

/// The blobs of one image among the files.
struct Blobs {
    files: ImageFiles,
    /// Files that are not named by their digest.
    names: Vec<(Digest, String)>,
}

impl ImageStore {
    /// Brings all images of an OCI layout directory, oci-archive or docker-archive into the store, under the names that
    /// are written there, or its single image under `rename`. Images before one that fails are kept.
    ///
    /// # Errors
    /// [`ImportError`], which names the path.
    pub async fn import(
        &self,
        path: &Path,
        rename: Option<&ImageReference>,
    ) -> Result<Vec<Image>, ImportError> {
        let transfer = |cause| ImportError::Transfer { path: path.to_owned(), cause };
        let place = path.to_owned();
        let (files, found) = blocking(move || Ok(find(place))).await.map_err(transfer)??;
        let named = name_images(found, rename)
            .map_err(|why| ImportError::Reference { path: path.to_owned(), why })?;
        let mut images = Vec::new();
        for (reference, content) in named {
            images.push(self.import_image(&files, content, &reference).await.map_err(transfer)?);
        }
        Ok(images)
    }

    async fn import_image(
        &self,
        files: &ImageFiles,
        content: Content,
        reference: &ImageReference,
    ) -> Result<Image, TransferError> {
        let files = files.clone();
        let opened = blocking(move || match content {
            Content::Oci(entries) => oci::open(files, &entries),
            Content::Docker(entry) => docker::open(files, &entry),
        });
        let Opened { digest, document, manifest, blobs } = opened.await?;
        let _pinned = self.inner.ingest.run(&blobs, digest, &document, &manifest, &|_| {}).await?;
        self.put_name(reference, digest).await
    }
}

impl BlobSource for Blobs {
    async fn open(&self, blob: &Blob, from_bytes: u64) -> Result<BlobStream, TransferError> {
        let named = self.names.iter().find(|(digest, _)| *digest == blob.digest);
        let name = named.map_or_else(|| oci::blob_name(&blob.digest), |(_, name)| name.clone());
        self.files.stream(name, from_bytes).await
    }
}

/// Looks what there is. Newer docker writes both kinds of index; the OCI one says more. Blocks.
fn find(path: PathBuf) -> Result<(ImageFiles, Vec<Found>), ImportError> {
    let files = match ImageFiles::open(&path) {
        Ok(files) => files,
        Err(NoFiles::Unreadable(source)) => return Err(ImportError::Unreadable { path, source }),
        Err(NoFiles::Other(why)) => return Err(ImportError::NotAnImage { path, why }),
    };
    let has = |name| files.has(name).map_err(|source| ImportError::Unreadable { path: path.clone(), source });
    let found = if has("oci-layout")? {
        oci::find(&files)
    } else if has("manifest.json")? {
        docker::find(&files)
    } else {
        let why = "there is neither `oci-layout` nor `manifest.json` in it".to_owned();
        return Err(ImportError::NotAnImage { path, why });
    };
    match found {
        Ok(found) => Ok((files, found)),
        Err(cause) => Err(ImportError::Transfer { path, cause }),
    }
}

/// Gives each image the name it gets.
///
/// # Errors
/// What can't be named, as a sentence.
fn name_images(
    found: Vec<Found>,
    rename: Option<&ImageReference>,
) -> Result<Vec<(ImageReference, Content)>, String> {
    let count = found.len();
    if count == 0 {
        return Err("it has no images".to_owned());
    }
    if count > IMAGES_COUNT_MAX {
        return Err(format!("it has more than {IMAGES_COUNT_MAX} images"));
    }
    if rename.is_some() && count > 1 {
        return Err(format!("one name was given for its {count} images"));
    }
    let name = |Found { name, content }| match (rename, name) {
        (Some(rename), _) => Ok((rename.clone(), content)),
        (None, Some(name)) => {
            let parsed = name.parse().map_err(|error: ImageNameError| {
                format!("its name is not usable: {}", shown(&error.to_string()))
            })?;
            Ok((parsed, content))
        }
        (None, None) => Err("it has an image without a name".to_owned()),
    };
    found.into_iter().map(name).collect()
}
