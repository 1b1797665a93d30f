//! Brings one blob into the store: bytes come from a stream, are hashed as they pass, and get their name only when
//! the digest is right. It doesn't know where they come from.

use std::{fs::File, io::Write, path::Path};

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

/// The bytes of a blob as they come.
pub(super) type BlobStream = BoxStream<'static, Result<Bytes, TransferError>>;

/// Somewhere that blobs come from: a registry, or an archive on disk.
pub(super) trait BlobSource: Sync {
    /// Begins to read a blob.
    fn open(&self, blob: &Blob) -> impl Future<Output = Result<BlobStream, TransferError>> + Send;
}

/// Stores a blob under its digest. `on_bytes` hears how many bytes came so far.
///
/// # Errors
/// Whatever ends the stream early, and content that is not what its digest promises.
pub(super) async fn download(
    layout: &Layout,
    blob: Blob,
    mut stream: BlobStream,
    on_bytes: impl Fn(u64) + Send,
) -> Result<(), TransferError> {
    let (chunks, received) = mpsc::channel(CHUNKS_IN_FLIGHT);
    let layout = layout.clone();
    let write = blocking(move || write_blob(&layout, blob, received));
    let read = async move {
        let mut bytes = 0;
        while let Some(chunk) = stream.next().await {
            let chunk = chunk?;
            bytes += chunk.len() as u64;
            if chunks.send(chunk).await.is_err() {
                // The writer gave up; its error is the one to tell.
                break;
            }
            on_bytes(bytes);
        }
        Ok(())
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
