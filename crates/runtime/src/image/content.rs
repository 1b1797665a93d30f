//! Reading manifests, indexes and configurations: JSON that came from strangers.
//! It refuses documents larger than honest ones are, media types it can't unpack, and images of other platforms.

use hypercore_model::Digest;

/// What is wrong with an index, a manifest or a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// Larger than [`DOCUMENT_BYTES_MAX`].
    #[error("{what} is {bytes} bytes large, over the limit of {DOCUMENT_BYTES_MAX}")]
    TooLarge {
        /// Which document.
        what: &'static str,
        /// How large it is, or at least is.
        bytes: u64,
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
    /// More layers than overlayfs can stack.
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
    /// A blob came out longer than its descriptor says.
    #[error("blob {blob} is longer than the {expected_bytes} bytes that were announced")]
    TooLong {
        /// The blob.
        blob: Digest,
        /// Its size by the descriptor.
        expected_bytes: u64,
    },
}

/// Largest index, manifest or configuration, in bytes: what registries must accept by the OCI distribution spec,
/// "Pushing manifests".
pub const DOCUMENT_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Most layers of one image: docker's own limit is 127, and overlayfs takes 500.
pub const LAYERS_COUNT_MAX: usize = 128;
