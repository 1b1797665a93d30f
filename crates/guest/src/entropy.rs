//! Randomness from the host for the kernel's generator. A clone has its parent's generator, so that it must be mixed
//! anew before anybody draws from it.

use std::{fs::File, io, os::fd::AsRawFd};

/// Most bytes that are taken at once.
const ENTROPY_LEN_MAX: usize = 256;

/// The kernel's `struct rand_pool_info` (linux/random.h) with room for what we add.
#[repr(C)]
struct RandomPool {
    entropy_count: libc::c_int,
    buf_size: libc::c_int,
    buf: [u8; ENTROPY_LEN_MAX],
}

nix::ioctl_write_ptr_bad!(
    /// `RNDADDENTROPY`: the macro's own type is the header without its bytes, so the number is written out.
    add_entropy,
    0x4008_5203,
    RandomPool
);
nix::ioctl_none!(
    /// `RNDRESEEDCRNG`: draws from the pool at once instead of within the next minutes.
    reseed,
    b'R',
    7
);

/// Adds bytes, all of which count as random, and has the generator use them at once. Nothing is nothing to do.
#[allow(unsafe_code, reason = "the kernel takes randomness by ioctl alone")]
pub(crate) fn add(bytes: &[u8]) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    let bytes = &bytes[..bytes.len().min(ENTROPY_LEN_MAX)];
    let len = libc::c_int::try_from(bytes.len()).map_err(io::Error::other)?;
    let mut pool = RandomPool { entropy_count: len * 8, buf_size: len, buf: [0; ENTROPY_LEN_MAX] };
    pool.buf[..bytes.len()].copy_from_slice(bytes);
    let device = File::options().write(true).open("/dev/random")?;
    // SAFETY: the structure is laid out as the kernel reads it, and `buf` has the `buf_size` bytes that it announces.
    unsafe { add_entropy(device.as_raw_fd(), &raw const pool) }?;
    // SAFETY: this one takes no argument.
    unsafe { reseed(device.as_raw_fd()) }?;
    Ok(())
}
