//! The initramfs of a microVM: the guest agent as `/init`, and the modules it loads, in a cpio archive (newc form,
//! Documentation/driver-api/early-userspace/buffer-format.rst). Made once for a kernel and an agent.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::{
    kernel::Kernel,
    modules::{self, Module, ModuleError},
    once::once,
};

/// What a guest needs of its kernel: its disks, port, network, layered root, the host's vsock, what gives the host
/// randomness and memory back, and the host's directories.
const MODULES: [&str; 11] = [
    "virtio_pci",
    // Firecracker's devices are on no bus that can be asked.
    "virtio_mmio",
    "virtio_blk",
    "virtio_console",
    "virtio_net",
    "overlay",
    "vmw_vsock_virtio_transport",
    "virtio_rng",
    "virtio_balloon",
    // Ends connections of the machine that was saved.
    "tcp_diag",
    "virtiofs",
];
/// Empty directories that the agent mounts on.
const DIRECTORIES: [&str; 6] = ["dev", "proc", "sys", "run", "root", "modules"];
/// The ELF program header type of a dynamic loader's name.
const PT_INTERP: u32 = 3;

/// Why there is no initramfs.
#[derive(Debug, thiserror::Error)]
pub enum InitramfsError {
    /// The guest agent can't be read.
    #[error("the guest agent {} can't be read", path.display())]
    Agent {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It needs a dynamic loader, which a guest doesn't have.
    #[error("the guest agent {} is not linked statically: build it with `cargo xtask guest`", .0.display())]
    Dynamic(PathBuf),
    /// A module.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// The archive can't be kept.
    #[error("{} can't be written", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl InitramfsError {
    /// Whether another guest agent would mend it; else another kernel, or room on the disk.
    #[must_use]
    pub const fn is_of_agent(&self) -> bool {
        matches!(self, Self::Agent { .. } | Self::Dynamic(_))
    }
}

/// The initramfs for `kernel` and `agent` in `directory`, made if it isn't there. Blocks, for some ten milliseconds
/// when it is made.
///
/// # Errors
/// [`InitramfsError`].
pub fn build(kernel: &Kernel, agent: &Path, directory: &Path) -> Result<PathBuf, InitramfsError> {
    let program =
        fs::read(agent).map_err(|source| InitramfsError::Agent { path: agent.to_owned(), source })?;
    let mut identity = Sha256::new();
    identity.update(kernel.release.as_bytes());
    identity.update(kernel.modules.as_os_str().as_encoded_bytes());
    identity.update(&program);
    identity.update(MODULES.join("\n"));
    let path = directory.join(format!("initramfs-{}", &hex::encode(identity.finalize())[..32]));
    once(&path, || {
        if !is_static(&program) {
            return Err(InitramfsError::Dynamic(agent.to_owned()));
        }
        let archive = archive(&program, &modules::collect(&kernel.modules, &MODULES)?);
        let new = path.with_extension("new");
        let written = fs::create_dir_all(directory)
            .and_then(|()| fs::write(&new, archive))
            // A name must not outlive a power cut that the content doesn't.
            .and_then(|()| fs::File::open(&new)?.sync_all())
            .and_then(|()| fs::rename(&new, &path));
        written.map_err(|source| InitramfsError::Write { path: path.clone(), source })
    })?;
    Ok(path)
}

/// Whether an ELF program (64 bits, little endian) runs without a dynamic loader.
fn is_static(program: &[u8]) -> bool {
    let number = |at: usize, len: usize| {
        let bytes = program.get(at..at + len)?;
        Some(bytes.iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    let headers = || {
        let (first, size, count) = (number(0x20, 8)?, number(0x36, 2)?, number(0x38, 2)?);
        let at = |index: u64| usize::try_from(first.checked_add(index * size)?).ok();
        (0..count).map(|index| number(at(index)?, 4)).collect::<Option<Vec<u64>>>()
    };
    program.starts_with(b"\x7fELF\x02\x01")
        && headers().is_some_and(|kinds| !kinds.contains(&u64::from(PT_INTERP)))
}

fn archive(program: &[u8], modules: &[Module]) -> Vec<u8> {
    let mut archive = Archive::default();
    for directory in DIRECTORIES {
        archive.add(directory, 0o040_755, (0, 0), &[]);
    }
    // The kernel's own first descriptors.
    archive.add("dev/console", 0o020_600, (5, 1), &[]);
    archive.add("init", 0o100_755, (0, 0), program);
    let mut order = String::new();
    for module in modules {
        archive.add(&format!("modules/{}.ko", module.name), 0o100_644, (0, 0), &module.bytes);
        order.push_str(&format!("{}.ko\n", module.name));
    }
    archive.add("modules/order", 0o100_644, (0, 0), order.as_bytes());
    archive.add("TRAILER!!!", 0, (0, 0), &[]);
    archive.bytes
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.entries += 1;
        let len = u32::try_from(content.len()).expect("a guest agent or a module has less than 4 GiB");
        let name_len = u32::try_from(name.len() + 1).expect("names are short");
        let fields = [self.entries, mode, 0, 0, 1, 0, len, 0, 0, device.0, device.1, name_len, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    /// Everything begins at a multiple of four.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_one_that_cpio_reads() {
        let module = Module { name: "virtio".into(), bytes: vec![7; 5] };
        let bytes = archive(b"agent", &[module]);
        let names: Vec<&str> = DIRECTORIES.into_iter().chain(["dev/console", "init"]).collect();
        let mut at = 0;
        for name in names {
            let field = |index: usize| {
                let digits = &bytes[at + 6 + index * 8..at + 14 + index * 8];
                usize::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap()
            };
            assert_eq!(&bytes[at..at + 6], b"070701");
            let (len, name_len) = (field(6), field(11));
            assert_eq!(&bytes[at + 110..at + 110 + name_len - 1], name.as_bytes());
            at = (at + 110 + name_len).next_multiple_of(4);
            at = (at + len).next_multiple_of(4);
        }
    }

    #[test]
    fn only_a_static_program_is_packed() {
        let this = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(!is_static(&this), "tests are linked dynamically");
        for damaged in [&b""[..], b"#!/bin/sh", &this[..64]] {
            assert!(!is_static(damaged));
        }
    }
}
