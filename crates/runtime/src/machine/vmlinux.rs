//! The kernel as the ELF program that it is inside a bzImage: Firecracker and Cloud Hypervisor load that, and unpack
//! nothing. Made once for a kernel. It refuses what it can't unpack by the name of its form, and never writes more than
//! a kernel can be long.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use flate2::read::GzDecoder;
use ruzstd::decoding::StreamingDecoder;
use sha2::{Digest as _, Sha256};

use hypercore_model::machine::Monitor;

use super::once::once;

/// Largest kernel that is read or unpacked, in bytes. Debian's takes 50 MiB.
const KERNEL_LEN_MAX: usize = 256 << 20;
/// Where the setup header of a bzImage is (Documentation/arch/x86/boot.rst), in bytes.
const HEADER_MAGIC_AT: usize = 0x202;
/// How many sectors come before the protected-mode code, less the first.
const SETUP_SECTORS_AT: usize = 0x1F1;
/// The version of the boot protocol; its high byte is the major one.
const PROTOCOL_AT: usize = 0x206;
/// The first protocol that says where the payload is.
const PROTOCOL_MIN: u16 = 0x0208;
/// Where the payload is, counted from the protected-mode code, and how long.
const PAYLOAD_AT: (usize, usize) = (0x248, 0x24C);
/// Sectors of a header that doesn't say how many.
const SETUP_SECTORS_DEFAULT: usize = 4;
/// Bytes of a sector.
const SECTOR: usize = 512;
/// Bytes at a payload's end that say how long it is when it is unpacked.
const SIZE_LEN: usize = 4;
/// How a frame of LZ4's older form begins.
const LZ4_MAGIC: [u8; 4] = [0x02, 0x21, 0x4C, 0x18];
/// Most that one block of such a frame holds, in bytes.
const LZ4_BLOCK_LEN_MAX: usize = 8 << 20;
/// `e_machine` of x86-64.
const MACHINE_X86_64: u16 = 62;

/// Digests of kernels that were looked at, by what tells that a file is the same as before.
static DIGESTS: Mutex<BTreeMap<Identity, String>> = Mutex::new(BTreeMap::new());

/// Device, inode, length, and when it was written: seconds and nanoseconds.
type Identity = (u64, u64, u64, i64, i64);

/// Why there is no such program.
#[derive(Debug, thiserror::Error)]
pub enum VmlinuxError {
    /// The kernel can't be read.
    #[error("the kernel {} can't be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file is neither a bzImage nor an ELF kernel for x86-64.
    #[error("{} is not a Linux kernel for x86-64 (bzImage or ELF)", .0.display())]
    NotAKernel(PathBuf),
    /// It says so itself, or it is longer than any kernel.
    #[error("the kernel {} is larger than {} MiB", .0.display(), KERNEL_LEN_MAX >> 20)]
    TooLarge(PathBuf),
    /// What is inside can't be unpacked here.
    #[error("the kernel {} is packed with {form}, which can't be unpacked; an ELF vmlinux can be given", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// The form's name.
        form: &'static str,
    },
    /// What is inside is damaged.
    #[error("the kernel {} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        #[source]
        source: io::Error,
    },
    /// The program can't be kept.
    #[error("{} can't be written", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// The kernel of `image` in the form that a monitor boots. As [`extract`].
///
/// # Errors
/// As [`extract`].
pub fn for_monitor(monitor: Monitor, image: &Path, directory: &Path) -> Result<PathBuf, VmlinuxError> {
    match monitor {
        Monitor::Qemu => Ok(image.to_owned()),
        Monitor::Firecracker | Monitor::CloudHypervisor => extract(image, directory),
    }
}

/// The ELF kernel of `image`: itself if it is one, else one in `directory`, made if it isn't there. Blocks, for half a
/// second when it is made.
///
/// # Errors
/// [`VmlinuxError`]; nothing is left of a program that could not be made.
pub fn extract(image: &Path, directory: &Path) -> Result<PathBuf, VmlinuxError> {
    let read = |source| VmlinuxError::Read { path: image.to_owned(), source };
    let mut magic = [0; 4];
    let mut file = File::open(image).map_err(read)?;
    let is_elf = file.read_exact(&mut magic).is_ok() && magic == *b"\x7fELF";
    if is_elf {
        return Ok(image.to_owned());
    }
    let path = directory.join(format!("vmlinux-{}", &digest(image).map_err(read)?[..32]));
    once(&path, || {
        let program = unpack(image, &read_bounded(image)?)?;
        let new = path.with_extension("new");
        let written = fs::create_dir_all(directory)
            .and_then(|()| fs::write(&new, program))
            // A name must not outlive a power cut that the content doesn't.
            .and_then(|()| File::open(&new)?.sync_all())
            .and_then(|()| fs::rename(&new, &path));
        written.map_err(|source| {
            // The error that explains is the one of the failed step.
            let _ = fs::remove_file(&new);
            VmlinuxError::Write { path: path.clone(), source }
        })
    })?;
    Ok(path)
}

/// The digest of a file, read again only when the file has changed.
fn digest(path: &Path) -> io::Result<String> {
    let file = fs::metadata(path)?;
    let identity = (file.dev(), file.ino(), file.len(), file.mtime(), file.mtime_nsec());
    let known = || DIGESTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(digest) = known().get(&identity) {
        return Ok(digest.clone());
    }
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut file = File::open(path)?.take(KERNEL_LEN_MAX as u64 + 1);
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            len => hasher.update(&buffer[..len]),
        }
    }
    let digest = hex::encode(hasher.finalize());
    known().insert(identity, digest.clone());
    Ok(digest)
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, VmlinuxError> {
    let read = |source| VmlinuxError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(read)?;
    let mut bytes = Vec::new();
    file.take(KERNEL_LEN_MAX as u64 + 1).read_to_end(&mut bytes).map_err(read)?;
    if bytes.len() > KERNEL_LEN_MAX { Err(VmlinuxError::TooLarge(path.to_owned())) } else { Ok(bytes) }
}

/// The program in a bzImage.
fn unpack(path: &Path, image: &[u8]) -> Result<Vec<u8>, VmlinuxError> {
    let payload = payload(image).ok_or_else(|| VmlinuxError::NotAKernel(path.to_owned()))?;
    let damaged = |source| VmlinuxError::Damaged { path: path.to_owned(), source };
    let (packed, size) = payload.split_at(payload.len() - SIZE_LEN);
    let len = usize::try_from(number::<4>(size, 0).unwrap_or_default()).unwrap_or(usize::MAX);
    if len > KERNEL_LEN_MAX {
        return Err(VmlinuxError::TooLarge(path.to_owned()));
    }
    let unpacked = match packed {
        [0x02, 0x21, 0x4C, 0x18, ..] => unpack_lz4(packed, len),
        // The last bytes of this form are the size itself, and belong to it.
        [0x1F, 0x8B, ..] => read_to(GzDecoder::new(payload), len),
        [0x28, 0xB5, 0x2F, 0xFD, ..] => {
            let decoder = StreamingDecoder::new(packed).map_err(|error| damaged(io::Error::other(error)))?;
            read_to(decoder, len)
        }
        other => return Err(VmlinuxError::Form { path: path.to_owned(), form: form(other) }),
    };
    let program = unpacked.map_err(damaged)?;
    if program.len() != len {
        let said = format!("it is {} bytes long and says {len}", program.len());
        return Err(damaged(io::Error::other(said)));
    }
    let is_kernel = program.starts_with(b"\x7fELF\x02\x01")
        && number::<2>(&program, 0x12) == Some(u64::from(MACHINE_X86_64));
    if is_kernel { Ok(program) } else { Err(VmlinuxError::NotAKernel(path.to_owned())) }
}

/// The packed kernel in a bzImage; at least as long as the size at its end.
fn payload(image: &[u8]) -> Option<&[u8]> {
    if image.get(HEADER_MAGIC_AT..HEADER_MAGIC_AT + 4)? != b"HdrS"
        || number::<2>(image, PROTOCOL_AT)? < u64::from(PROTOCOL_MIN)
    {
        return None;
    }
    let sectors = match usize::from(*image.get(SETUP_SECTORS_AT)?) {
        0 => SETUP_SECTORS_DEFAULT,
        sectors => sectors,
    };
    let (offset, len) = (number::<4>(image, PAYLOAD_AT.0)?, number::<4>(image, PAYLOAD_AT.1)?);
    let begin = ((sectors + 1) * SECTOR).checked_add(usize::try_from(offset).ok()?)?;
    let end = begin.checked_add(usize::try_from(len).ok()?)?;
    image.get(begin..end).filter(|payload| payload.len() > SIZE_LEN)
}

/// LZ4's older form: frames of blocks, each with its length before it.
fn unpack_lz4(packed: &[u8], len_max: usize) -> io::Result<Vec<u8>> {
    let mut unpacked = Vec::with_capacity(len_max);
    let mut rest = &packed[LZ4_MAGIC.len()..];
    let mut block = vec![0; LZ4_BLOCK_LEN_MAX.min(len_max)];
    while !rest.is_empty() {
        let (head, after) = rest.split_at_checked(4).ok_or(io::ErrorKind::UnexpectedEof)?;
        if head == LZ4_MAGIC {
            rest = after;
            continue;
        }
        let len = number::<4>(head, 0).and_then(|len| usize::try_from(len).ok()).unwrap_or(usize::MAX);
        let (packed, after) = after.split_at_checked(len).ok_or(io::ErrorKind::UnexpectedEof)?;
        let len = lz4_flex::block::decompress_into(packed, &mut block).map_err(io::Error::other)?;
        if unpacked.len() + len > len_max {
            return Err(io::Error::other("it holds more than it says"));
        }
        unpacked.extend_from_slice(&block[..len]);
        rest = after;
    }
    Ok(unpacked)
}

/// Everything, but one byte more than promised at most.
fn read_to(from: impl Read, len: usize) -> io::Result<Vec<u8>> {
    let mut unpacked = Vec::with_capacity(len);
    from.take(len as u64 + 1).read_to_end(&mut unpacked)?;
    Ok(unpacked)
}

/// The names of the other forms that Linux can be packed in (scripts/Makefile.lib).
fn form(packed: &[u8]) -> &'static str {
    match packed {
        [0xFD, b'7', b'z', b'X', b'Z', 0, ..] => "xz",
        [b'B', b'Z', b'h', ..] => "bzip2",
        [0x5D, 0, 0, ..] => "lzma",
        [0x89, b'L', b'Z', b'O', ..] => "lzo",
        [0x04, 0x22, 0x4D, 0x18, ..] => "LZ4's newer form",
        _ => "something unknown",
    }
}

/// A little-endian number of `N` bytes.
fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(N)?)?;
    Some(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests;
