//! Snapshots of machines: directories of a node that hold everything a machine needs to go on, and that may be copied to
//! another node as they are.
//!
//! ```text
//!   snapshots/<name>/        snapshot.json    what it was made of, and the length and digest of each file
//!                            state            devices and processors; also the memory when that is not mapped
//!                            memory           the guest's memory; clones map it and copy what they write to
//!                            writable.ext4    the machine's own disk
//!                            image.ext4  kernel  initrd    hard links: a guest's page cache belongs to these bytes
//!   snapshots/<name>.*.new   one that is being made
//!   snapshots/.seals/<name>  which files of it were compared with their digests, by inode, length and time
//! ```
//!
//! A snapshot appears whole, by a rename, and says itself which engine it is for. What lies in the directory is believed
//! as little as anything that came from elsewhere: names, sizes and owners are checked whenever it is used, small files
//! are compared with their digests each time, and large ones when they are not those that were compared before: all of
//! them, after a copy. It refuses to follow links and to run anything.

mod draft;
mod error;
mod file;
mod lend;
mod manifest;
mod origin;
mod seal;

#[cfg(test)]
mod tests;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use hypercore_model::SnapshotName;

pub use draft::Draft;
pub use error::{FileFault, SnapshotError};
pub use lend::{Lent, take_back};
pub use manifest::{Manifest, SavedMachine, unsaved};
pub use origin::Origin;

use super::bundle::Platform;
use error::disk;
use seal::Seal;

/// What a snapshot that is being made ends with.
const UNFINISHED: &str = ".new";
/// Where seals are; no snapshot's name begins with a dot.
const SEALS: &str = ".seals";
/// What the names of snapshots for clones alone begin with. They go when nobody waits for them.
const TEMPORARY: &str = "fork-";

/// One snapshot, looked at.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// What its directory is called.
    pub name: SnapshotName,
    /// What it says of itself.
    pub manifest: Manifest,
    /// Bytes of disk that it takes: without what it shares with others of the node.
    pub size_bytes: u64,
    directory: PathBuf,
}

/// What a look at one snapshot showed.
#[derive(Debug)]
pub struct Look {
    /// What its directory is called.
    pub name: SnapshotName,
    /// The snapshot, or why it can't be used.
    pub found: Result<Snapshot, SnapshotError>,
}

/// All snapshots of a node; clones are the same. Its methods block on the disk.
#[derive(Debug, Clone)]
pub struct SnapshotStore {
    directory: PathBuf,
    /// Whoever reads files of snapshots holds it with others; whoever adds or removes one holds it alone.
    changing: Arc<RwLock<()>>,
}

impl SnapshotStore {
    /// The snapshots in `directory`, which is made if it isn't there. What a crash left half made goes.
    ///
    /// # Errors
    /// The directory can't be made or read.
    pub fn open(directory: &Path) -> Result<Self, SnapshotError> {
        for directory in [directory.to_owned(), directory.join(SEALS)] {
            file::make_directory(&directory)?;
            for entry in fs::read_dir(&directory).map_err(disk("read", &directory))? {
                let path = entry.map_err(disk("read", &directory))?.path();
                if path.to_string_lossy().ends_with(UNFINISHED) {
                    file::remove_tree(&path)?;
                }
            }
        }
        Ok(Self { directory: directory.to_owned(), changing: Arc::default() })
    }

    /// Begins a snapshot of a machine that was made of `origin`. What is written into [`Draft::directory`] becomes a
    /// snapshot by [`Draft::commit`]; a draft that is dropped leaves nothing.
    ///
    /// # Errors
    /// [`SnapshotError::Exists`], [`SnapshotError::Replaced`] when what the machine booted from is not there any more, or
    /// the disk's.
    pub fn begin(&self, name: &SnapshotName, origin: &Origin) -> Result<Draft, SnapshotError> {
        let _changing = self.alone();
        Draft::begin(self, name, origin)
    }

    /// The snapshot of that name, as far as it can be told without reading large files.
    ///
    /// # Errors
    /// [`SnapshotError::NotFound`], or what is wrong with it.
    pub fn get(&self, name: &SnapshotName) -> Result<Snapshot, SnapshotError> {
        Snapshot::read(name, &self.path(name))
    }

    /// All snapshots by name, also those that can't be used.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn list(&self) -> Result<Vec<Look>, SnapshotError> {
        let mut looks = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(disk("read", &self.directory))? {
            let entry = entry.map_err(disk("read", &self.directory))?;
            let name = entry.file_name().to_str().and_then(|name| name.parse::<SnapshotName>().ok());
            let Some(name) = name else { continue };
            match self.get(&name) {
                // It was removed meanwhile.
                Err(SnapshotError::NotFound(_)) => {}
                found => looks.push(Look { name, found }),
            }
        }
        looks.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(looks)
    }

    /// Reads every file of a snapshot and compares it with its digest.
    ///
    /// # Errors
    /// [`SnapshotError::File`], naming the first that is another.
    pub fn verify(&self, snapshot: &Snapshot) -> Result<(), SnapshotError> {
        let _reading = self.together();
        let seal = snapshot.compare(|_, _| false)?;
        seal.write(&self.seal(&snapshot.name))
    }

    /// Removes a snapshot. What was lent of it stays where it was lent to.
    ///
    /// # Errors
    /// [`SnapshotError::NotFound`], or the disk's.
    pub fn remove(&self, name: &SnapshotName) -> Result<(), SnapshotError> {
        let removed = self.directory.join(format!("{name}.removed{UNFINISHED}"));
        {
            let _changing = self.alone();
            let path = self.path(name);
            file::remove_tree(&removed)?;
            fs::rename(&path, &removed).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => SnapshotError::NotFound(name.clone()),
                _ => disk("remove", &path)(error),
            })?;
            file::remove_tree(&self.seal(name))?;
        }
        file::remove_tree(&removed)
    }

    fn path(&self, name: &SnapshotName) -> PathBuf {
        self.directory.join(name.as_str())
    }

    fn seal(&self, name: &SnapshotName) -> PathBuf {
        self.directory.join(SEALS).join(name.as_str())
    }

    fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.changing.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn together(&self) -> RwLockReadGuard<'_, ()> {
        self.changing.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Snapshot {
    /// Refuses what another engine made than runs machines here.
    ///
    /// # Errors
    /// [`SnapshotError::Engine`].
    pub fn check_engine(&self, here: &Platform) -> Result<(), SnapshotError> {
        let saved = &self.manifest.machine;
        if saved.fits(here) {
            return Ok(());
        }
        let here = manifest::engine(here.monitor, &here.version.to_string(), here.accelerator);
        Err(SnapshotError::Engine { name: self.name.clone(), of: saved.engine(), here })
    }

    fn read(name: &SnapshotName, directory: &Path) -> Result<Self, SnapshotError> {
        let manifest = Manifest::read(name, directory)?;
        let mut size_bytes = 0;
        for (file, record) in &manifest.files {
            let failed = |why| SnapshotError::file(name, file, why);
            let opened = file::open(&directory.join(file)).map_err(failed)?;
            if opened.len != record.len_bytes {
                return Err(failed(FileFault::Length { is: opened.len, was: record.len_bytes }));
            }
            if !(manifest::is_of_node(file) && opened.is_linked) {
                size_bytes += opened.disk_bytes;
            }
        }
        Ok(Self { name: name.clone(), manifest, size_bytes, directory: directory.to_owned() })
    }

    /// Compares with their digests all files but those that `is_known`, and answers a seal of all.
    fn compare(&self, is_known: impl Fn(&str, &file::Opened) -> bool) -> Result<Seal, SnapshotError> {
        let mut seal = Seal::default();
        for (file, record) in &self.manifest.files {
            let failed = |why| SnapshotError::file(&self.name, file, why);
            let opened = file::open(&self.directory.join(file)).map_err(failed)?;
            if !is_known(file, &opened) {
                let digest = file::digest(&opened.file).map_err(FileFault::Unreadable).map_err(failed)?;
                if opened.len != record.len_bytes || digest != record.digest {
                    return Err(failed(FileFault::Changed));
                }
            }
            seal.add(file, &opened);
        }
        Ok(seal)
    }
}

/// A name for a snapshot that lives as long as clones wait for it; `word` tells it from others.
///
/// # Errors
/// When `word` can't be part of a name.
pub fn temporary_name(word: &str) -> Result<SnapshotName, hypercore_model::name::NameError> {
    format!("{TEMPORARY}{word}").parse()
}

/// Whether a snapshot is for clones alone.
#[must_use]
pub fn is_temporary(name: &SnapshotName) -> bool {
    name.as_str().starts_with(TEMPORARY)
}
