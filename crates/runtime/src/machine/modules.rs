//! A kernel's modules: which there are, and which must be loaded before which. The kernel package has no index, so
//! that what a module needs is read from the module itself (its `.modinfo` section says `depends=`).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

/// Deepest directory that is looked into.
const DEPTH_MAX: usize = 16;
/// Largest module that is read, in bytes.
const MODULE_LEN_MAX: u64 = 64 * 1024 * 1024;

/// Why a module can't be packed.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// The directory of the modules, or a module, can't be read.
    #[error("{} can't be read", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A module that the guest can't do without, or that another one needs.
    #[error("the kernel has no module `{0}`, which microVMs need")]
    Missing(String),
    /// It is compressed, or much too large.
    #[error("the module {} is in a form that can't be packed", .0.display())]
    Form(PathBuf),
}

/// A module with its content.
#[derive(Debug)]
pub(super) struct Module {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
}

/// The wanted modules and those they need, each after what it needs. What is built into the kernel is left out.
pub(super) fn collect(directory: &Path, wanted: &[&str]) -> Result<Vec<Module>, ModuleError> {
    let mut collector = Collector {
        known: BTreeMap::new(),
        builtin: builtin(directory)?,
        seen: BTreeSet::new(),
        ordered: Vec::new(),
    };
    find(&directory.join("kernel"), &mut collector.known, 0)?;
    for name in wanted {
        collector.add(name)?;
    }
    Ok(collector.ordered)
}

struct Collector {
    known: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
    seen: BTreeSet<String>,
    ordered: Vec<Module>,
}

impl Collector {
    fn add(&mut self, name: &str) -> Result<(), ModuleError> {
        if self.builtin.contains(name) || !self.seen.insert(name.to_owned()) {
            return Ok(());
        }
        let path = self.known.get(name).ok_or_else(|| ModuleError::Missing(name.to_owned()))?.clone();
        let failed = |source| ModuleError::Read { path: path.clone(), source };
        if fs::metadata(&path).map_err(failed)?.len() > MODULE_LEN_MAX {
            return Err(ModuleError::Form(path));
        }
        let bytes = fs::read(&path).map_err(failed)?;
        if !bytes.starts_with(b"\x7fELF") {
            return Err(ModuleError::Form(path));
        }
        for needed in depends(&bytes) {
            self.add(&needed)?;
        }
        self.ordered.push(Module { name: name.to_owned(), bytes });
        Ok(())
    }
}

/// A module's name as the kernel says it: files may have `-` where it has `_`.
fn name_of(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let (name, _) = file.split_once(".ko")?;
    Some(name.replace('-', "_"))
}

fn builtin(directory: &Path) -> Result<BTreeSet<String>, ModuleError> {
    let path = directory.join("modules.builtin");
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.lines().filter_map(name_of).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(source) => Err(ModuleError::Read { path, source }),
    }
}

fn find(directory: &Path, known: &mut BTreeMap<String, PathBuf>, depth: usize) -> Result<(), ModuleError> {
    let failed = |source| ModuleError::Read { path: directory.to_owned(), source };
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() && depth < DEPTH_MAX {
            find(&entry.path(), known, depth + 1)?;
        } else if let Some(name) = entry.file_name().to_str().and_then(name_of).filter(|_| kind.is_file()) {
            known.insert(name, entry.path());
        }
    }
    Ok(())
}

/// The names after `depends=`, which the build writes once into each module.
fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else { return Vec::new() };
    let rest = &module[at + KEY.len()..];
    let text = &rest[..rest.iter().position(|byte| *byte == 0).unwrap_or(0)];
    let names = std::str::from_utf8(text).unwrap_or("").split(',');
    names.filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(depends: &str) -> Vec<u8> {
        format!("\x7fELF..\0license=GPL\0depends={depends}\0name=x\0").into_bytes()
    }

    #[test]
    fn modules_come_after_what_they_need() {
        let root = tempfile::tempdir().unwrap();
        let drivers = root.path().join("kernel/drivers/virtio");
        fs::create_dir_all(&drivers).unwrap();
        for (file, depends) in
            [("virtio_pci.ko", "virtio,virtio-ring"), ("virtio.ko", "virtio_ring"), ("virtio-ring.ko", "")]
        {
            fs::write(drivers.join(file), module(depends)).unwrap();
        }
        fs::write(root.path().join("modules.builtin"), "kernel/fs/ext4/ext4.ko\n").unwrap();
        let names = |wanted: &[&str]| -> Vec<String> {
            collect(root.path(), wanted).unwrap().into_iter().map(|module| module.name).collect()
        };
        assert_eq!(names(&["virtio_pci", "ext4", "virtio"]), ["virtio_ring", "virtio", "virtio_pci"]);
        assert!(
            matches!(collect(root.path(), &["overlay"]), Err(ModuleError::Missing(name)) if name == "overlay")
        );
        fs::write(drivers.join("odd.ko.xz"), b"\xfd7zXZ").unwrap();
        assert!(matches!(collect(root.path(), &["odd"]), Err(ModuleError::Form(_))));
    }
}
