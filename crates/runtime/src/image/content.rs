//! Reading manifests, indexes and configurations: JSON that came from strangers.
//! It refuses documents larger than honest ones are, media types it can't unpack, and images of other platforms.

use hypercore_copy::shown::shown;
use hypercore_model::Digest;
use oci_spec::image::{Arch, Descriptor, ImageConfiguration, ImageIndex, ImageManifest, Os};
use serde::{Deserialize, de::DeserializeOwned};

use super::TransferError;

/// Largest index, manifest or configuration, in bytes: what registries must accept by the OCI distribution spec,
/// "Pushing manifests".
pub(super) const DOCUMENT_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Most layers of one image: docker's own limit is 127, and overlayfs takes 500.
pub(super) const LAYERS_COUNT_MAX: usize = 128;
/// Largest compressed layer, in bytes.
pub(super) const LAYER_BYTES_MAX: u64 = 64 * 1024 * 1024 * 1024;

/// Media types of manifests and indexes, as an `Accept` header says what we can read.
pub(super) const MANIFEST_MEDIA_TYPES: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
/// Media types of configurations of runnable images; anything else is an artifact.
const CONFIG_MEDIA_TYPES: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
/// Media types of layers. How they are compressed is told by their first bytes.
const LAYER_MEDIA_TYPES: [&str; 5] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
];

/// What is wrong with an index, a manifest or a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// Larger than any honest one.
    #[error("{what} has {bytes} bytes, over the limit of {bytes_max}")]
    TooLarge {
        /// Which document or blob.
        what: &'static str,
        /// How large it is, or at least is.
        bytes: u64,
        /// How large it may be.
        bytes_max: u64,
    },
    /// Not the JSON that the OCI image spec describes.
    #[error("{what} can't be read")]
    Json {
        /// Which document.
        what: &'static str,
        /// Where it is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A media type that can't be run, such as an artifact or docker's schema 1.
    #[error("{what} has the media type `{media_type}`, which is not supported")]
    MediaType {
        /// Which document or layer.
        what: &'static str,
        /// What it says it is.
        media_type: String,
    },
    /// A digest of another algorithm than SHA-256, or no digest at all.
    #[error("{what} is named by `{digest}`, but only sha256 digests are supported")]
    DigestAlgorithm {
        /// Which document or layer.
        what: &'static str,
        /// What it is named.
        digest: String,
    },
    /// No layers: there would be nothing to run.
    #[error("it has no layers")]
    NoLayers,
    /// More layers than are ever needed.
    #[error("it has {count} layers, over the limit of {LAYERS_COUNT_MAX}")]
    TooManyLayers {
        /// How many it has.
        count: usize,
    },
    /// The manifest and the configuration disagree about the layers.
    #[error("its manifest lists {layers} layers and its configuration {diff_ids}")]
    LayerCount {
        /// Layers of the manifest.
        layers: usize,
        /// diff_ids of the configuration.
        diff_ids: usize,
    },
    /// An index within an index within an index: honest images nest once.
    #[error("its indexes are nested too deeply")]
    TooDeep,
    /// A file name that leads out of the archive.
    #[error("it names a file `{name}`")]
    FileName {
        /// The name.
        name: String,
    },
    /// A blob came out longer than its descriptor says.
    #[error("blob {blob} is longer than the {expected_bytes} bytes that were announced")]
    TooLong {
        /// The blob.
        blob: Digest,
        /// Its size by the descriptor.
        expected_bytes: u64,
    },
}

/// Content to be fetched: its digest, and its size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Blob {
    pub(super) digest: Digest,
    pub(super) size_bytes: u64,
}

/// The manifest of one image of one platform.
#[derive(Debug, Clone)]
pub(super) struct Manifest {
    pub(super) config: Blob,
    /// Compressed layers, lowest first.
    pub(super) layers: Vec<Blob>,
}

/// What a manifest's place can hold.
#[derive(Debug)]
pub(super) enum Document {
    /// One image.
    Manifest(Manifest),
    /// What an index offers.
    Index(Vec<Descriptor>),
}

/// The parts of a document that tell which kind it is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
}

impl Document {
    /// Reads an index or a manifest, of OCI's or docker's making.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ContentError> {
        let kind: Kind = json("its manifest", bytes)?;
        let is_index = match kind.media_type.as_deref() {
            None => kind.manifests.is_some(),
            Some(media_type) if MANIFEST_MEDIA_TYPES.contains(&media_type) => {
                media_type.contains("index") || media_type.contains("list")
            }
            Some(media_type) => {
                return Err(ContentError::MediaType { what: "its manifest", media_type: shown(media_type) });
            }
        };
        if is_index {
            return json("its index", bytes).map(|index: ImageIndex| Self::Index(index.manifests().clone()));
        }
        Manifest::new(&json("its manifest", bytes)?).map(Self::Manifest)
    }
}

impl Manifest {
    fn new(manifest: &ImageManifest) -> Result<Self, ContentError> {
        let count = manifest.layers().len();
        if count > LAYERS_COUNT_MAX {
            return Err(ContentError::TooManyLayers { count });
        }
        let config = blob("its configuration", manifest.config(), &CONFIG_MEDIA_TYPES, DOCUMENT_BYTES_MAX)?;
        let layers = manifest.layers().iter();
        let layers = layers.map(|layer| blob("a layer", layer, &LAYER_MEDIA_TYPES, LAYER_BYTES_MAX));
        let layers: Vec<_> = layers.collect::<Result<_, _>>()?;
        if layers.is_empty() { Err(ContentError::NoLayers) } else { Ok(Self { config, layers }) }
    }

    /// Reads the configuration that belongs to this manifest, with the diff_ids of its layers, lowest first.
    pub(super) fn parse_config(
        &self,
        bytes: &[u8],
    ) -> Result<(ImageConfiguration, Vec<Digest>), TransferError> {
        let config: ImageConfiguration =
            json("its configuration", bytes).map_err(TransferError::Malformed)?;
        let diff_ids = config.rootfs().diff_ids().iter().map(|text| digest("a layer", text));
        let diff_ids: Vec<_> = diff_ids.collect::<Result<_, _>>().map_err(TransferError::Malformed)?;
        if diff_ids.len() != self.layers.len() {
            let (layers, diff_ids) = (self.layers.len(), diff_ids.len());
            return Err(TransferError::Malformed(ContentError::LayerCount { layers, diff_ids }));
        }
        if *config.os() != Os::Linux || *config.architecture() != Arch::default() {
            let available = shown(&format!("{}/{}", config.os(), config.architecture()));
            return Err(TransferError::NoPlatform { wanted: wanted_platform(), available });
        }
        Ok((config, diff_ids))
    }

    /// Bytes that a pull of the image transfers, without the manifest itself.
    pub(super) fn size_bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size_bytes).sum::<u64>() + self.config.size_bytes
    }
}

/// Picks this machine's image out of several. One without a platform is taken when there is no better; its
/// configuration still has to fit.
pub(super) fn choose_platform<'a>(
    entries: impl Iterator<Item = &'a Descriptor> + Clone,
) -> Result<Digest, TransferError> {
    let fits = |entry: &&Descriptor| {
        entry.platform().as_ref().is_some_and(|platform| {
            // Variants beyond the base level (amd64/v3) may need instructions that this CPU lacks.
            let is_base =
                platform.variant().as_deref().is_none_or(|variant| matches!(variant, "" | "v1" | "v8"));
            *platform.os() == Os::Linux && *platform.architecture() == Arch::default() && is_base
        })
    };
    // Indexes also list what is no image: signatures, SBOMs, attestations.
    let is_for_any = |entry: &&Descriptor| {
        entry.platform().is_none() && entry.artifact_type().is_none() && !is_attestation(entry)
    };
    let chosen = entries.clone().find(fits).or_else(|| entries.clone().find(is_for_any));
    let Some(chosen) = chosen else {
        let platforms = entries.filter_map(|entry| entry.platform().as_ref());
        let mut available: Vec<_> =
            platforms.map(|platform| format!("{}/{}", platform.os(), platform.architecture())).collect();
        // What buildkit calls the attestations that it puts beside images.
        available.retain(|platform| platform != "unknown/unknown");
        available.dedup();
        let available =
            if available.is_empty() { "no platform at all".to_owned() } else { shown(&available.join(", ")) };
        return Err(TransferError::NoPlatform { wanted: wanted_platform(), available });
    };
    digest("an image of its index", chosen.digest().as_ref()).map_err(TransferError::Malformed)
}

/// Whether an entry is what buildkit puts beside an image, by its own annotation.
fn is_attestation(entry: &Descriptor) -> bool {
    let annotations = entry.annotations().as_ref();
    annotations.is_some_and(|all| all.contains_key("vnd.docker.reference.type"))
}

/// Reads a JSON document of at most [`DOCUMENT_BYTES_MAX`].
pub(super) fn json<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, ContentError> {
    let size = bytes.len() as u64;
    if size > DOCUMENT_BYTES_MAX {
        return Err(ContentError::TooLarge { what, bytes: size, bytes_max: DOCUMENT_BYTES_MAX });
    }
    serde_json::from_slice(bytes).map_err(|source| ContentError::Json { what, source })
}

fn wanted_platform() -> String {
    format!("{}/{}", Os::Linux, Arch::default())
}

fn digest(what: &'static str, text: &str) -> Result<Digest, ContentError> {
    text.parse().map_err(|_| ContentError::DigestAlgorithm { what, digest: shown(text) })
}

fn blob(
    what: &'static str,
    descriptor: &Descriptor,
    media_types: &[&str],
    bytes_max: u64,
) -> Result<Blob, ContentError> {
    let media_type = descriptor.media_type().as_ref();
    if !media_types.contains(&media_type) {
        return Err(ContentError::MediaType { what, media_type: shown(media_type) });
    }
    let size_bytes = descriptor.size();
    if size_bytes > bytes_max {
        return Err(ContentError::TooLarge { what, bytes: size_bytes, bytes_max });
    }
    Ok(Blob { digest: digest(what, descriptor.digest().as_ref())?, size_bytes })
}
