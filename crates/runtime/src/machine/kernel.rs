//! The guest's kernel: where it is, which it is, and where its modules are. It refuses to fetch one: `doctor --fix` does.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

/// Where the setup header of a bzImage is (Documentation/arch/x86/boot.rst), in bytes.
const HEADER_MAGIC_AT: u64 = 0x202;
/// The header's magic.
const HEADER_MAGIC: [u8; 4] = *b"HdrS";
/// Where the offset of the version text is, less 0x200.
const VERSION_POINTER_AT: u64 = 0x20E;
/// Longest version text that is read, in bytes.
const VERSION_LEN_MAX: usize = 256;
/// How an ELF kernel says its version, which nothing in its headers does (init/version.c, `linux_banner`).
const BANNER: &[u8] = b"Linux version ";
/// Largest ELF kernel that is looked through, in bytes.
const ELF_LEN_MAX: u64 = 512 << 20;

/// A kernel that can be booted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// The bzImage, or the ELF program.
    pub image: PathBuf,
    /// Its release, such as `6.1.0-13-cloud-amd64`.
    pub release: String,
    /// The directory of its modules, as `/lib/modules/<release>` would be.
    pub modules: PathBuf,
}

/// Why there is no kernel.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// None was named, and none is where `doctor --fix` puts it.
    #[error("there is no kernel for microVMs in {}", .0.display())]
    Missing(PathBuf),
    /// The file can't be read.
    #[error("the kernel {} can't be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file is something else.
    #[error("{} is not a Linux kernel (bzImage)", .0.display())]
    NotAKernel(PathBuf),
    /// The modules of that very release are nowhere.
    #[error("the modules of the kernel {release} are not in {}", looked_in.display())]
    NoModules {
        /// The kernel's release.
        release: String,
        /// Where they should be.
        looked_in: PathBuf,
    },
}

impl Kernel {
    /// The kernel in `tree`, an unpacked kernel package: `boot/vmlinuz-*` with `lib/modules/*` beside it.
    ///
    /// # Errors
    /// [`KernelError`].
    pub fn in_tree(tree: &Path) -> Result<Self, KernelError> {
        let entries = fs::read_dir(tree.join("boot")).ok().into_iter().flatten().flatten();
        let mut images: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        images.retain(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"))
        });
        images.sort();
        let image = images.pop().ok_or_else(|| KernelError::Missing(tree.to_owned()))?;
        Self::at(&image)
    }

    /// The kernel in a file. Its modules are looked for in the tree that the file lies in, then in the host's.
    ///
    /// # Errors
    /// [`KernelError`].
    pub fn at(image: &Path) -> Result<Self, KernelError> {
        let release = release(image)?;
        let tree = image.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
        let beside = tree.join("lib/modules").join(&release);
        let of_host = Path::new("/lib/modules").join(&release);
        let found = [&beside, &of_host].into_iter().find(|path| path.join("kernel").is_dir());
        match found {
            Some(modules) => Ok(Self { image: image.to_owned(), modules: modules.clone(), release }),
            None => Err(KernelError::NoModules { release, looked_in: beside }),
        }
    }
}

/// The release that a kernel says it is.
fn release(image: &Path) -> Result<String, KernelError> {
    let failed = |source| KernelError::Read { path: image.to_owned(), source };
    let mut file = File::open(image).map_err(failed)?;
    let text = read_version(&mut file).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => {
            KernelError::NotAKernel(image.to_owned())
        }
        _ => failed(error),
    })?;
    let release = text.split(' ').next().unwrap_or("").to_owned();
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+' | '~');
    if release.is_empty() || release.starts_with('.') || !release.chars().all(is_name) {
        return Err(KernelError::NotAKernel(image.to_owned()));
    }
    Ok(release)
}

fn read_version(file: &mut File) -> io::Result<String> {
    let mut magic = [0; 4];
    file.read_exact(&mut magic)?;
    if magic == *b"\x7fELF" {
        return read_banner(file);
    }
    file.seek(SeekFrom::Start(HEADER_MAGIC_AT))?;
    file.read_exact(&mut magic)?;
    if magic != HEADER_MAGIC {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut pointer = [0; 2];
    file.seek(SeekFrom::Start(VERSION_POINTER_AT))?;
    file.read_exact(&mut pointer)?;
    file.seek(SeekFrom::Start(u64::from(u16::from_le_bytes(pointer)) + 0x200))?;
    let mut bytes = Vec::new();
    file.take(VERSION_LEN_MAX as u64).read_to_end(&mut bytes)?;
    let len = bytes.iter().position(|byte| *byte == 0).ok_or(io::ErrorKind::InvalidData)?;
    bytes.truncate(len);
    String::from_utf8(bytes).map_err(|_| io::ErrorKind::InvalidData.into())
}

fn read_banner(file: &File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.take(ELF_LEN_MAX).read_to_end(&mut bytes)?;
    let finder = memchr::memmem::Finder::new(BANNER);
    // The same words are also in a format, with a `%s` for the release.
    let versions = finder.find_iter(&bytes).map(|at| &bytes[at + BANNER.len()..]);
    let found =
        versions.map(|text| &text[..text.len().min(VERSION_LEN_MAX)]).find(|text| !text.starts_with(b"%"));
    let text = found.ok_or(io::ErrorKind::InvalidData)?;
    let len = text.iter().position(|byte| *byte == b' ').ok_or(io::ErrorKind::InvalidData)?;
    String::from_utf8(text[..len].to_vec()).map_err(|_| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The head of a bzImage with this version text.
    fn image(version: &str) -> Vec<u8> {
        let mut bytes = vec![0; 0x400];
        bytes[0x202..0x206].copy_from_slice(b"HdrS");
        bytes[0x20E..0x210].copy_from_slice(&0x100u16.to_le_bytes());
        bytes[0x300..0x300 + version.len()].copy_from_slice(version.as_bytes());
        bytes
    }

    #[test]
    fn a_package_tree_has_kernel_and_modules() {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir(tree.path().join("boot")).unwrap();
        assert!(matches!(Kernel::in_tree(tree.path()), Err(KernelError::Missing(_))));
        fs::write(tree.path().join("boot/vmlinuz-6.1"), image("6.1.0-x (builder) #1")).unwrap();
        assert!(matches!(
            Kernel::in_tree(tree.path()),
            Err(KernelError::NoModules { release, .. }) if release == "6.1.0-x"
        ));
        fs::create_dir_all(tree.path().join("lib/modules/6.1.0-x/kernel")).unwrap();
        assert_eq!(Kernel::in_tree(tree.path()).unwrap().release, "6.1.0-x");
    }

    #[test]
    fn what_is_no_kernel_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vmlinuz");
        let elf = b"\x7fELF and no Linux version ".to_vec();
        for bytes in [Vec::new(), vec![0; 4096], image("../../etc x"), image(""), elf] {
            fs::write(&path, bytes).unwrap();
            assert!(matches!(Kernel::at(&path), Err(KernelError::NotAKernel(_))));
        }
        assert!(matches!(Kernel::at(&directory.path().join("none")), Err(KernelError::Read { .. })));
    }
}
