//! Brings one blob into the store: bytes come from a stream, are hashed as they pass, and get their name only when
//! the digest is right. It doesn't know where they come from.

use std::{fs::File, io::Write, path::Path, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};
use hypercore_model::Digest;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::{
    TransferError,
    blocking::blocking,
    content::{Blob, ContentError},
    layout::Layout,
};

/// Chunks between the network and the disk: enough to keep both busy, few enough to stay small.
const CHUNKS_IN_FLIGHT: usize = 32;

/// How often a blob may break off and be taken up again.
const INTERRUPTIONS_MAX: u32 = 10;

/// How often a source that broke off and doesn't answer is asked again, and how long after its first silence; the time
/// doubles, and adds up to six seconds: enough for a registry or a proxy to restart.
const REOPEN_ATTEMPTS_MAX: u32 = 5;
const REOPEN_DELAY: Duration = Duration::from_millis(200);

/// The bytes of a blob as they come.
pub(super) type BlobStream = BoxStream<'static, Result<Bytes, TransferError>>;

/// Somewhere that blobs come from: a registry, or an archive on disk.
pub(super) trait BlobSource: Sync {
    /// Begins to read a blob, from that many bytes after its beginning.
    fn open(
        &self,
        blob: &Blob,
        from_bytes: u64,
    ) -> impl Future<Output = Result<BlobStream, TransferError>> + Send;
}

/// Stores a blob under its digest. `on_bytes` hears how many bytes came so far. A stream that breaks off is taken up
/// where it broke, as long as that brings more.
///
/// # Errors
/// Whatever ends the stream early, and content that is not what its digest promises.
pub(super) async fn download(
    layout: &Layout,
    blob: Blob,
    source: &impl BlobSource,
    on_bytes: impl FnMut(u64) + Send,
) -> Result<(), TransferError> {
    let mut stream = source.open(&blob, 0).await?;
    let (chunks, received) = mpsc::channel(CHUNKS_IN_FLIGHT);
    let layout = layout.clone();
    let write = blocking(move || write_blob(&layout, blob, received));
    let read = async move {
        let mut reader = Reader { chunks, bytes: 0, on_bytes };
        for _ in 0..INTERRUPTIONS_MAX {
            let before = reader.bytes;
            let ended = reader.read(&mut stream).await;
            let is_stuck = reader.bytes == before || reader.chunks.is_closed();
            if reader.bytes >= blob.size_bytes || is_stuck {
                return ended;
            }
            tracing::debug!(blob = %blob.digest, bytes = reader.bytes, "a blob broke off; taking it up again");
            stream = reopen(source, &blob, reader.bytes).await?;
        }
        reader.read(&mut stream).await
    };
    let (written, read) = tokio::join!(write, read);
    match (written, read) {
        // A stream that broke leaves a blob too short. How short says most about a network, and least about a disk.
        (Err(TransferError::Truncated { .. }), Err(cause))
            if !matches!(cause, TransferError::Unreachable(_)) =>
        {
            Err(cause)
        }
        (written, _) => written,
    }
}

/// Takes up a blob that broke off. Whatever ended the stream may also keep its source from answering for a while.
async fn reopen(source: &impl BlobSource, blob: &Blob, from_bytes: u64) -> Result<BlobStream, TransferError> {
    let mut delay = REOPEN_DELAY;
    for _ in 0..REOPEN_ATTEMPTS_MAX {
        match source.open(blob, from_bytes).await {
            Err(TransferError::Unreachable(_) | TransferError::Refused { status: 502..=504, .. }) => {}
            opened => return opened,
        }
        tokio::time::sleep(delay).await;
        delay *= 2;
    }
    source.open(blob, from_bytes).await
}

/// Hands chunks on to whoever writes them.
struct Reader<F> {
    chunks: mpsc::Sender<Bytes>,
    bytes: u64,
    on_bytes: F,
}

impl<F: FnMut(u64)> Reader<F> {
    /// Reads until the stream ends, or the writer has given up: its error is then the one to tell.
    async fn read(&mut self, stream: &mut BlobStream) -> Result<(), TransferError> {
        while let Some(chunk) = stream.next().await {
            let chunk = chunk?;
            let bytes = self.bytes + chunk.len() as u64;
            if self.chunks.send(chunk).await.is_err() {
                break;
            }
            self.bytes = bytes;
            (self.on_bytes)(bytes);
        }
        Ok(())
    }
}

/// The digest of bytes at hand.
pub(super) fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_sha256(Sha256::digest(bytes).into())
}

/// Stores bytes at hand, whose digest was computed or checked before.
pub(super) fn write_small_blob(layout: &Layout, digest: &Digest, bytes: &[u8]) -> Result<(), TransferError> {
    let temporary = layout.temporary();
    let write = |path: &Path| {
        let mut file = File::create_new(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write(temporary.path())
        .and_then(|()| temporary.place(&layout.blob(digest)))
        .map_err(TransferError::store("write a blob"))
}

fn write_blob(layout: &Layout, blob: Blob, mut chunks: mpsc::Receiver<Bytes>) -> Result<(), TransferError> {
    let failed = || TransferError::store("write a blob");
    layout.expect_room(blob.size_bytes).map_err(failed())?;
    let temporary = layout.temporary();
    let mut file = File::create_new(temporary.path()).map_err(failed())?;
    let (mut hasher, mut bytes) = (Sha256::new(), 0);
    while let Some(chunk) = chunks.blocking_recv() {
        bytes += chunk.len() as u64;
        if bytes > blob.size_bytes {
            let too_long = ContentError::TooLong { blob: blob.digest, expected_bytes: blob.size_bytes };
            return Err(TransferError::Malformed(too_long));
        }
        hasher.update(&chunk);
        file.write_all(&chunk).map_err(failed())?;
    }
    if bytes < blob.size_bytes {
        let (expected_bytes, received_bytes) = (blob.size_bytes, bytes);
        return Err(TransferError::Truncated { blob: blob.digest, expected_bytes, received_bytes });
    }
    let actual = Digest::from_sha256(hasher.finalize().into());
    if actual != blob.digest {
        return Err(TransferError::DigestMismatch { expected: blob.digest, actual });
    }
    file.sync_all().and_then(|()| temporary.place(&layout.blob(&blob.digest))).map_err(failed())
}
