//! What pulls and imports share: from a manifest at hand to an image whose blobs and layers are all in the store.
//! It gives no names: an image that nobody refers to is not visible.

use std::{
    collections::HashMap,
    fs::{self, File, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use futures_util::{StreamExt, TryStreamExt, stream};
use hypercore_model::Digest;

use super::{
    PullProgress, PullStep, TransferError, UnpackError,
    blocking::blocking,
    collect::{Pinned, Pins},
    content::{Blob, Manifest},
    download::{BlobSource, download, write_small_blob},
    error::is_disk_full,
    layout::Layout,
    unpack::{UnpackLimits, unpack},
};

/// Layers of one image that are downloaded or unpacked at a time.
const LAYERS_AT_ONCE: usize = 4;
/// Bytes between two reports of the same layer.
const REPORT_EVERY_BYTES: u64 = 256 * 1024;

/// Who is told how a pull gets on.
pub(super) type Listener<'a> = &'a (dyn Fn(PullProgress) + Send + Sync);

/// Brings content into a store. Clones share their locks, so that a layer that two images need comes once.
#[derive(Debug, Clone)]
pub(super) struct Ingest {
    layout: Layout,
    pins: Pins,
    layers: Arc<Mutex<HashMap<Digest, Weak<LayerLock>>>>,
}

/// Held by whoever brings one layer in.
type LayerLock = tokio::sync::Mutex<()>;

/// A layer as manifest and configuration describe it together.
#[derive(Debug, Clone, Copy)]
struct Layer {
    blob: Blob,
    diff_id: Digest,
}

impl Ingest {
    pub(super) fn new(layout: Layout, pins: Pins) -> Self {
        Self { layout, pins, layers: Arc::default() }
    }

    /// Brings an image in: configuration first, then its layers in parallel, its manifest last. What is there already
    /// isn't read again. All of it stays pinned until the caller, who gives the image its name, drops the result.
    ///
    /// # Errors
    /// The first layer's failure ends the others.
    pub(super) async fn run(
        &self,
        source: &impl BlobSource,
        digest: Digest,
        document: &[u8],
        manifest: &Manifest,
        listener: Listener<'_>,
    ) -> Result<Pinned, TransferError> {
        let content = manifest.layers.iter().map(|layer| layer.digest);
        let mut pinned = self.pins.pin(content.chain([digest, manifest.config.digest]));
        let config = self.read_config(source, manifest.config).await?;
        let (_, diff_ids) = manifest.parse_config(&config)?;
        pinned.add(diff_ids.iter().copied());

        let layers = manifest.layers.iter().zip(diff_ids).map(|(&blob, diff_id)| Layer { blob, diff_id });
        let layers: Vec<_> = layers.collect();
        for layer in &layers {
            layer.report(listener, 0, PullStep::Waiting);
        }
        let brought = layers.into_iter().map(|layer| self.bring_layer(source, layer, listener));
        stream::iter(brought).buffer_unordered(LAYERS_AT_ONCE).try_collect::<()>().await?;

        let (layout, document) = (self.layout.clone(), document.to_vec());
        blocking(move || {
            if !layout.blob(&digest).exists() {
                write_small_blob(&layout, &digest, &document)?;
            }
            layout.sync_names().map_err(TransferError::store("write its directories"))
        })
        .await?;
        Ok(pinned)
    }

    async fn read_config(&self, source: &impl BlobSource, config: Blob) -> Result<Vec<u8>, TransferError> {
        let path = self.layout.blob(&config.digest);
        if !path.exists() {
            download(&self.layout, config, source, |_| {}).await?;
        }
        blocking(move || fs::read(path).map_err(TransferError::store("read a blob"))).await
    }

    async fn bring_layer(
        &self,
        source: &impl BlobSource,
        layer: Layer,
        listener: Listener<'_>,
    ) -> Result<(), TransferError> {
        let lock = self.lock_of(layer.diff_id);
        let _held = lock.lock().await;
        let size_bytes = layer.blob.size_bytes;
        if self.layout.layer(&layer.diff_id).exists() {
            layer.report(listener, size_bytes, PullStep::Present);
            return Ok(());
        }
        if !self.layout.blob(&layer.blob.digest).exists() {
            self.download_layer(source, &layer, listener).await?;
        }
        layer.report(listener, size_bytes, PullStep::Unpacking);
        let layout = self.layout.clone();
        blocking(move || layer.unpack(&layout)).await?;
        layer.report(listener, size_bytes, PullStep::Done);
        Ok(())
    }

    async fn download_layer(
        &self,
        source: &impl BlobSource,
        layer: &Layer,
        listener: Listener<'_>,
    ) -> Result<(), TransferError> {
        layer.report(listener, 0, PullStep::Downloading);
        let mut reported_bytes = 0;
        let report = |bytes| {
            if bytes - reported_bytes >= REPORT_EVERY_BYTES || bytes == layer.blob.size_bytes {
                reported_bytes = bytes;
                layer.report(listener, bytes, PullStep::Downloading);
            }
        };
        download(&self.layout, layer.blob, source, report).await
    }

    /// The lock of a layer. It lives as long as somebody has it.
    fn lock_of(&self, diff_id: Digest) -> Arc<LayerLock> {
        let mut locks = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = locks.get(&diff_id).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::new(LayerLock::default());
        locks.insert(diff_id, Arc::downgrade(&lock));
        lock
    }
}

impl Layer {
    fn report(&self, listener: Listener<'_>, received_bytes: u64, step: PullStep) {
        let Blob { digest, size_bytes } = self.blob;
        listener(PullProgress { layer: digest, received_bytes, total_bytes: size_bytes, step });
    }

    /// Unpacks the layer's blob to where the layer belongs. Blocks.
    fn unpack(self, layout: &Layout) -> Result<(), TransferError> {
        let temporary = layout.temporary();
        let failed = || TransferError::store("make a layer's directory");
        fs::create_dir(temporary.path()).map_err(failed())?;
        // What an image's root is when the layer says nothing about it.
        fs::set_permissions(temporary.path(), Permissions::from_mode(0o755)).map_err(failed())?;
        let blob = File::open(layout.blob(&self.blob.digest)).map_err(TransferError::store("read a blob"))?;
        let limits = UnpackLimits::of_blob(self.blob.size_bytes);
        let actual = unpack(blob, temporary.path(), &limits).map_err(|error| self.failed(error))?;
        if actual != self.diff_id {
            return Err(self.failed(UnpackError::WrongDigest { actual }));
        }
        temporary.place(&layout.layer(&self.diff_id)).map_err(failed())
    }

    fn failed(&self, source: UnpackError) -> TransferError {
        match source.as_io().filter(|error| is_disk_full(error)).and_then(io::Error::raw_os_error) {
            Some(code) => TransferError::DiskFull(io::Error::from_raw_os_error(code)),
            None => TransferError::Unpack { layer: self.diff_id, source },
        }
    }
}
