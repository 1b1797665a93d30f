//! What a pull tells while it runs. It carries no errors: those are the pull's result.

use hypercore_model::Digest;

/// Where one layer is on its way into the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullStep {
    /// Known from the manifest, nothing asked for yet.
    Waiting,
    /// Its bytes are arriving.
    Downloading,
    /// All bytes are here and right; its files are being written.
    Unpacking,
    /// It is in the store.
    Done,
    /// It was in the store before.
    Present,
}

/// One step of one layer. A layer starts with `Waiting` and ends with `Done` or `Present`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PullProgress {
    /// The layer's blob, as the manifest names it.
    pub layer: Digest,
    /// Compressed bytes received so far.
    pub received_bytes: u64,
    /// Compressed bytes in all, as the manifest says.
    pub total_bytes: u64,
    /// Where the layer is.
    pub step: PullStep,
}
