//! A layer's bytes on their way from the compressed blob to the tar reader: decompressed, counted and hashed.
//! It refuses streams that grow beyond their limit, which is what decompression bombs do.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use hypercore_model::Digest;
use ruzstd::decoding::{
    BlockDecodingStrategy, FrameDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};
use sha2::{Digest as _, Sha256};

/// Bytes read from the blob at a time.
const BUFFER_BYTES: usize = 128 * 1024;
/// Beginning of every gzip member (RFC 1952 §2.3.1).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Beginning of every zstd frame with content (RFC 8878 §3.1.1).
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The last three bytes of the magic number of zstd's skippable frames; the first is 0x50 to 0x5f (RFC 8878 §3.1.2).
const ZSTD_SKIPPABLE_MAGIC: [u8; 3] = [0x2a, 0x4d, 0x18];

/// A stream grew beyond its limit.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("it unpacks to more than {bytes_max} bytes")]
pub(super) struct StreamTooLong {
    bytes_max: u64,
}

/// Opens a layer of any supported compression. The first bytes tell which: media types are wrong too often, and what
/// comes out is checked against the diff_id anyway.
pub(super) fn decompress<'a>(blob: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut blob = BufReader::with_capacity(BUFFER_BYTES, blob);
    let start = blob.fill_buf()?;
    let is_zstd = start.starts_with(&ZSTD_MAGIC)
        || (start.len() >= 4 && start[0] & 0xf0 == 0x50 && start[1..4] == ZSTD_SKIPPABLE_MAGIC);
    if start.starts_with(&GZIP_MAGIC) {
        Ok(Box::new(MultiGzDecoder::new(blob)))
    } else if is_zstd {
        Ok(Box::new(ZstdFrames::new(blob)))
    } else {
        Ok(Box::new(blob))
    }
}

/// All frames of a zstd stream, one after another; skippable frames are skipped (zstd:chunked images have them).
struct ZstdFrames<R> {
    source: R,
    decoder: FrameDecoder,
    is_in_frame: bool,
}

impl<R: BufRead> ZstdFrames<R> {
    fn new(source: R) -> Self {
        Self { source, decoder: FrameDecoder::new(), is_in_frame: false }
    }

    /// Begins the next frame with content; `false` at the end of the stream.
    fn begin_frame(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    io::copy(&mut (&mut self.source).take(u64::from(length)), &mut io::sink())?;
                }
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for ZstdFrames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.is_in_frame {
                self.is_in_frame = self.begin_frame()?;
                if !self.is_in_frame {
                    return Ok(0);
                }
            }
            if self.decoder.can_collect() > 0 {
                return self.decoder.read(buffer);
            }
            if self.decoder.is_finished() {
                self.is_in_frame = false;
            } else {
                let one_block = BlockDecodingStrategy::UptoBlocks(1);
                let decoded = self.decoder.decode_blocks(&mut self.source, one_block);
                decoded.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            }
        }
    }
}

/// Counts and hashes what passes, and fails once it is more than the limit.
pub(super) struct Metered<R> {
    stream: R,
    hasher: Sha256,
    bytes: u64,
    bytes_max: u64,
}

impl<R: Read> Metered<R> {
    pub(super) fn new(stream: R, bytes_max: u64) -> Self {
        Self { stream, hasher: Sha256::new(), bytes: 0, bytes_max }
    }

    /// Reads what is left, and tells the digest of everything that passed.
    pub(super) fn finish(mut self) -> io::Result<Digest> {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            match self.read(&mut buffer) {
                Ok(0) => return Ok(Digest::from_sha256(self.hasher.finalize().into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        self.bytes = self.bytes.saturating_add(read as u64);
        if self.bytes > self.bytes_max {
            return Err(io::Error::other(StreamTooLong { bytes_max: self.bytes_max }));
        }
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(content: &[u8]) -> Vec<u8> {
        compress_to_vec(content, CompressionLevel::Fastest)
    }

    fn read_all(blob: &[u8]) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        decompress(blob)?.read_to_end(&mut content).map(|_| content)
    }

    #[test]
    fn every_compression_gives_the_content_back() {
        let content = b"some bytes ".repeat(50_000);
        for blob in [content.clone(), gzip(&content), zstd(&content)] {
            assert!(read_all(&blob).unwrap() == content);
        }
    }

    #[test]
    fn members_and_frames_are_joined_and_skippable_frames_skipped() {
        let skippable = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"xyz"].concat();
        let frames = [skippable.clone(), zstd(b"one "), skippable.clone(), zstd(b"two"), skippable].concat();
        assert_eq!(read_all(&frames).unwrap(), b"one two");
        assert_eq!(read_all(&[gzip(b"one "), gzip(b"two")].concat()).unwrap(), b"one two");
    }

    #[test]
    fn a_bomb_is_cut_off() {
        let bomb = gzip(&vec![0; 10_000_000]);
        let stream = Metered::new(decompress(&bomb[..]).unwrap(), 1_000_000);
        let error = stream.finish().unwrap_err();
        assert_eq!(error.to_string(), "it unpacks to more than 1000000 bytes");
    }

    #[test]
    fn the_digest_is_of_the_uncompressed_bytes() {
        let digest = Metered::new(decompress(&gzip(b"")[..]).unwrap(), 10).finish().unwrap();
        assert_eq!(digest.hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    proptest! {
        /// The decoders are told anything: they may refuse it, not panic or run forever.
        #[test]
        fn damaged_blobs_are_refused_or_read(at in 0usize..400, byte: u8, cut in 0usize..400) {
            for mut blob in [gzip(&b"abcdefgh".repeat(200)), zstd(&b"abcdefgh".repeat(200))] {
                let (len, cut) = (blob.len(), cut % blob.len());
                blob[at % len] = byte;
                drop(read_all(&blob));
                drop(read_all(&blob[..len - cut]));
            }
        }
    }
}
