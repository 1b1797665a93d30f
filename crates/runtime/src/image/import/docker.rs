//! Finds the images of a docker-archive, as `docker save` wrote it before it wrote OCI layouts (moby, image/spec/v1.2).
//! Such images have no manifest: one is made from what the archive has, and is then the image's.

use std::{
    io::{self, Read},
    sync::Arc,
};

use hypercore_copy::{path::MemberPath, shown::shown};
use hypercore_model::Digest;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{Blobs, Content, Found, Opened};
use crate::image::{
    TransferError,
    content::{Blob, ContentError, LAYERS_COUNT_MAX, Manifest, json as parse},
    download::digest_of,
    files::ImageFiles,
};

/// Bytes hashed at a time.
const BUFFER_BYTES: usize = 128 * 1024;

/// One image in `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Entry {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Reads `manifest.json`; an image comes once per name. Blocks.
pub(super) fn find(files: &ImageFiles) -> Result<Vec<Found>, TransferError> {
    let entries = files.read("its manifest.json", "manifest.json")?;
    let entries: Vec<Entry> = parse("its manifest.json", &entries).map_err(TransferError::Malformed)?;
    let mut found = Vec::new();
    for mut entry in entries {
        let names = entry.repo_tags.take().unwrap_or_default();
        let names = if names.is_empty() { vec![None] } else { names.into_iter().map(Some).collect() };
        let entry = Arc::new(entry);
        let content = || Content::Docker(Arc::clone(&entry));
        found.extend(names.into_iter().map(|name| Found { name, content: content() }));
    }
    Ok(found)
}

/// Makes the manifest. Layers have to be hashed for it, as their names mean nothing. Blocks.
pub(super) fn open(files: ImageFiles, entry: &Entry) -> Result<Opened, TransferError> {
    let count = entry.layers.len();
    if count > LAYERS_COUNT_MAX {
        return Err(TransferError::Malformed(ContentError::TooManyLayers { count }));
    }
    let config_name = checked(&entry.config)?;
    let config = files.read("its configuration", &config_name)?;
    let config_blob = Blob { digest: digest_of(&config), size_bytes: config.len() as u64 };
    let mut names = vec![(config_blob.digest, config_name)];
    let mut layers = Vec::new();
    for layer in &entry.layers {
        let name = checked(layer)?;
        let layer = hash(&files, &name)?;
        layers.push(layer);
        names.push((layer.digest, name));
    }
    let manifest = Manifest { config: config_blob, layers };
    let document = write_manifest(&manifest).into_bytes();
    Ok(Opened { digest: digest_of(&document), document, manifest, blobs: Blobs { files, names } })
}

fn write_manifest(manifest: &Manifest) -> String {
    let descriptor = |media_type, blob: &Blob| json!({ "mediaType": media_type, "digest": blob.digest, "size": blob.size_bytes });
    let layers =
        manifest.layers.iter().map(|layer| descriptor("application/vnd.oci.image.layer.v1.tar", layer));
    let document = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &manifest.config),
        "layers": layers.collect::<Vec<_>>(),
    });
    document.to_string()
}

/// A file's name, which must not lead out of the directory that the files are in.
fn checked(name: &str) -> Result<String, TransferError> {
    match MemberPath::parse(name.as_bytes()) {
        Ok(path) if path.as_bytes() == name.as_bytes() => Ok(name.to_owned()),
        _ => Err(TransferError::Malformed(ContentError::FileName { name: shown(name) })),
    }
}

fn hash(files: &ImageFiles, name: &str) -> Result<Blob, TransferError> {
    let read = || {
        let mut file = files.open_file(name)?;
        let (mut hasher, mut buffer, mut size_bytes) = (Sha256::new(), vec![0; BUFFER_BYTES], 0);
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(Blob { digest: Digest::from_sha256(hasher.finalize().into()), size_bytes }),
                read => {
                    hasher.update(&buffer[..read]);
                    size_bytes += read as u64;
                }
            }
        }
    };
    read().map_err(|error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => TransferError::NotFound,
        _ => TransferError::store("read a file to import")(error),
    })
}
