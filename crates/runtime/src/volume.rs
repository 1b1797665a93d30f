//! Volumes: named directories of the node that outlive workloads.
//!
//! ```text
//!   volumes/<name>/  volume.json   when it was made, and its labels
//!                    data/         what workloads see
//!                    first/        the image's content on its way into `data`; gone when it arrived
//!   volumes/.<name>  a volume that is being made or removed
//! ```
//!
//! A volume appears and goes whole, by a rename. It refuses to be removed while anybody uses it, and to look into what
//! workloads wrote: its size is counted without following a link.

mod fill;

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use hypercore_model::{Timestamp, WorkloadId, mount::VolumeName};
use serde::{Deserialize, Serialize};

pub use fill::{FillError, Ownership};

/// One volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name, unique on the node.
    pub name: VolumeName,
    /// When it was made.
    pub created_at: Timestamp,
    /// Free-form marks for people.
    pub labels: BTreeMap<String, String>,
    /// The directory that workloads see.
    pub data: PathBuf,
}

/// Why something could not be done with a volume.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// There is one of that name.
    #[error("there is a volume {0} already")]
    Exists(VolumeName),
    /// There is none of that name.
    #[error("there is no volume {0}")]
    NotFound(VolumeName),
    /// Workloads use it.
    #[error("the volume {name} is used by {}", users.iter().map(WorkloadId::short).collect::<Vec<_>>().join(", "))]
    InUse {
        /// Which volume.
        name: VolumeName,
        /// Who uses it; never empty.
        users: Vec<WorkloadId>,
    },
    /// Its record can't be read.
    #[error("the record of the volume at {} can't be read", path.display())]
    Record {
        /// The volume's directory.
        path: PathBuf,
        /// What the system or the decoder said.
        #[source]
        source: io::Error,
    },
    /// The disk refused something.
    #[error("the node could not {step} {}", path.display())]
    Disk {
        /// What it was doing.
        step: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What the image has at the place can't be copied into it.
    #[error("the image's content can't be copied into the volume {name}")]
    Fill {
        /// Which volume.
        name: VolumeName,
        /// Which file, and why.
        #[source]
        source: FillError,
    },
}

/// `volume.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    created_at: Timestamp,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// All volumes of a node. Its methods block on the disk.
#[derive(Debug)]
pub struct VolumeStore {
    directory: PathBuf,
    /// Held while a volume is made, filled for the first time, or removed.
    changing: Mutex<()>,
}

impl VolumeStore {
    /// The volumes in `directory`, which is made if it isn't there. What a crash left half made or half removed goes.
    ///
    /// # Errors
    /// The directory can't be made or read.
    pub fn open(directory: &Path) -> Result<Self, VolumeError> {
        make_directory(directory, 0o700)?;
        let entries = fs::read_dir(directory).map_err(disk("read", directory))?;
        for entry in entries {
            let entry = entry.map_err(disk("read", directory))?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                fs::remove_dir_all(entry.path()).map_err(disk("remove", &entry.path()))?;
            }
        }
        Ok(Self { directory: directory.to_owned(), changing: Mutex::new(()) })
    }

    /// Makes an empty volume.
    ///
    /// # Errors
    /// [`VolumeError::Exists`], or the disk's.
    pub fn create(&self, name: &VolumeName, labels: BTreeMap<String, String>) -> Result<Volume, VolumeError> {
        let _changing = self.lock();
        self.make(name, labels)
    }

    /// The volume of that name.
    ///
    /// # Errors
    /// [`VolumeError::NotFound`], or its record is broken.
    pub fn get(&self, name: &VolumeName) -> Result<Volume, VolumeError> {
        let path = self.directory.join(name.as_str());
        let bytes = match fs::read(path.join("volume.json")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(VolumeError::NotFound(name.clone()));
            }
            read => read,
        };
        let record = bytes.and_then(|bytes| Ok(serde_json::from_slice::<Record>(&bytes)?));
        let record = record.map_err(|source| VolumeError::Record { path: path.clone(), source })?;
        let Record { created_at, labels } = record;
        Ok(Volume { name: name.clone(), created_at, labels, data: path.join("data") })
    }

    /// All volumes, by name.
    ///
    /// # Errors
    /// The directory can't be read, or a record is broken.
    pub fn list(&self) -> Result<Vec<Volume>, VolumeError> {
        let entries = fs::read_dir(&self.directory).map_err(disk("read", &self.directory))?;
        let mut volumes = Vec::new();
        for entry in entries {
            let entry = entry.map_err(disk("read", &self.directory))?;
            let Some(name) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            match self.get(&name) {
                Ok(volume) => volumes.push(volume),
                // It was removed meanwhile.
                Err(VolumeError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(volumes)
    }

    /// Bytes of disk that the content of `volume` takes. Hard links are counted once for each name.
    ///
    /// # Errors
    /// A directory of it can't be read.
    pub fn size_bytes(&self, volume: &Volume) -> Result<u64, VolumeError> {
        let mut total = 0;
        let mut directories = vec![volume.data.clone()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(&directory).map_err(disk("read", &directory))? {
                let entry = entry.map_err(disk("read", &directory))?;
                // A file that went meanwhile takes no room.
                let Ok(metadata) = fs::symlink_metadata(entry.path()) else { continue };
                total += metadata.blocks() * 512;
                if metadata.is_dir() {
                    directories.push(entry.path());
                }
            }
        }
        Ok(total)
    }

    /// Removes a volume with all its content, unless `users` names workloads that have it.
    ///
    /// # Errors
    /// [`VolumeError::NotFound`], [`VolumeError::InUse`], or the disk's.
    pub fn remove(
        &self,
        name: &VolumeName,
        users: impl FnOnce() -> Vec<WorkloadId>,
    ) -> Result<(), VolumeError> {
        let path = self.directory.join(name.as_str());
        let removed = self.directory.join(format!(".{name}"));
        {
            // A workload that comes to use it takes this lock too, after it was committed: it is seen here, or it
            // finds the volume gone and makes a new one.
            let _changing = self.lock();
            self.get(name)?;
            let users = users();
            if !users.is_empty() {
                return Err(VolumeError::InUse { name: name.clone(), users });
            }
            remove_directory(&removed)?;
            fs::rename(&path, &removed).map_err(disk("remove", &path))?;
        }
        remove_directory(&removed)
    }

    /// The directory of the volume for a workload that mounts it, made if it isn't there. An empty one gets a copy of
    /// what `image_content` has.
    ///
    /// # Errors
    /// The disk's, or [`VolumeError::Fill`].
    pub(crate) fn take(
        &self,
        name: &VolumeName,
        image_content: Option<&Path>,
        ownership: Ownership,
    ) -> Result<PathBuf, VolumeError> {
        let _changing = self.lock();
        let volume = match self.get(name) {
            Err(VolumeError::NotFound(_)) => self.make(name, BTreeMap::new())?,
            got => got?,
        };
        if let Some(content) = image_content {
            fill::fill(&volume.data, content, ownership)
                .map_err(|source| VolumeError::Fill { name: name.clone(), source })?;
        }
        Ok(volume.data)
    }

    fn make(&self, name: &VolumeName, labels: BTreeMap<String, String>) -> Result<Volume, VolumeError> {
        let path = self.directory.join(name.as_str());
        if path.exists() {
            return Err(VolumeError::Exists(name.clone()));
        }
        let new = self.directory.join(format!(".{name}"));
        remove_directory(&new)?;
        make_directory(&new, 0o700)?;
        // The mode of `data` is what workloads see as the mode of the mount point.
        make_directory(&new.join("data"), 0o755)?;
        let record = Record { created_at: Timestamp::from_system_time(SystemTime::now()), labels };
        write_record(&new.join("volume.json"), &record).map_err(disk("write the record of", &new))?;
        fs::rename(&new, &path).map_err(disk("make", &path))?;
        let synced = File::open(&self.directory).and_then(|directory| directory.sync_all());
        synced.map_err(disk("make", &path))?;
        let Record { created_at, labels } = record;
        Ok(Volume { name: name.clone(), created_at, labels, data: path.join("data") })
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        // The lock guards the disk, which is whole after every step.
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write_record(path: &Path, record: &Record) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(&serde_json::to_vec(record)?)?;
    file.sync_all()
}

fn make_directory(path: &Path, mode: u32) -> Result<(), VolumeError> {
    DirBuilder::new().recursive(true).mode(mode).create(path).map_err(disk("make", path))
}

fn remove_directory(path: &Path) -> Result<(), VolumeError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(disk("remove", path)(error)),
        _ => Ok(()),
    }
}

fn disk(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> VolumeError {
    move |source| VolumeError::Disk { step, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
