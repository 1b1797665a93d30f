//! Volumes: named storage of the node that outlives workloads. A volume is a directory or a disk, as its first use
//! needs it.
//!
//! ```text
//!   volumes/<name>/  volume.json   when it was made, its labels, its form
//!                    data/         what workloads see of a directory
//!                    first/        the image's content on its way into `data`; gone when it arrived
//!                    disk.ext4     what microVMs mount of a disk
//!   volumes/.<name>  a volume that is being made or removed
//! ```
//!
//! A volume appears and goes whole, by a rename. It refuses to be removed while anybody uses it, and to look into what
//! workloads wrote: its size is counted without following a link.

mod block;
mod fill;
mod record;
mod replay;

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use hypercore_model::{Timestamp, WorkloadId, mount::VolumeName};

use record::Record;

pub use block::BlockError;
pub use fill::{FillError, Ownership};
pub use record::VolumeForm;

/// What a disk can hold when nobody said it, in bytes. It takes no room before it is written.
const CAPACITY_BYTES_DEFAULT: u64 = 10 << 30;

/// One volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name, unique on the node.
    pub name: VolumeName,
    /// When it was made.
    pub created_at: Timestamp,
    /// Free-form marks for people.
    pub labels: BTreeMap<String, String>,
    /// What it is on the disk.
    pub form: VolumeForm,
    /// The directory that workloads see, or their disk.
    pub data: PathBuf,
}

/// What a machine gets of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ForMachine {
    /// A disk.
    Disk(PathBuf),
    /// A directory of the host.
    Directory(PathBuf),
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
    /// A disk is wanted as a directory.
    #[error("the volume {0} is a disk: microVMs alone can mount it")]
    Form(VolumeName),
    /// It can't be used as a disk.
    #[error("the volume {name} can't be used: {source}")]
    Block {
        /// Which volume.
        name: VolumeName,
        /// Why.
        source: BlockError,
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

    /// Makes an empty volume: a disk if it has a capacity, else whatever its first use needs.
    ///
    /// # Errors
    /// [`VolumeError::Exists`], or the disk's.
    pub fn create(
        &self,
        name: &VolumeName,
        labels: BTreeMap<String, String>,
        capacity_bytes: Option<u64>,
    ) -> Result<Volume, VolumeError> {
        let _changing = self.lock();
        let form =
            capacity_bytes.map_or(VolumeForm::Open, |capacity_bytes| VolumeForm::Block { capacity_bytes });
        self.make(name, labels, form)
    }

    /// The volume of that name.
    ///
    /// # Errors
    /// [`VolumeError::NotFound`], or its record is broken.
    pub fn get(&self, name: &VolumeName) -> Result<Volume, VolumeError> {
        let path = self.directory.join(name.as_str());
        match Record::read(&path) {
            Ok(record) => Ok(self.volume(name, record)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(VolumeError::NotFound(name.clone())),
            Err(source) => Err(VolumeError::Record { path, source }),
        }
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
        if matches!(volume.form, VolumeForm::Block { .. }) {
            // A disk that nobody has used yet is not made.
            return Ok(fs::metadata(&volume.data).map_or(0, |disk| disk.blocks() * 512));
        }
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
            Err(VolumeError::NotFound(_)) => self.make(name, BTreeMap::new(), VolumeForm::Directory)?,
            got => got?,
        };
        match volume.form {
            VolumeForm::Directory => {}
            VolumeForm::Open => self.settle(&volume, VolumeForm::Directory)?,
            VolumeForm::Block { .. } => return Err(VolumeError::Form(name.clone())),
        }
        if let Some(content) = image_content {
            fill::fill(&volume.data, content, ownership)
                .map_err(|source| VolumeError::Fill { name: name.clone(), source })?;
        }
        Ok(volume.data)
    }

    /// The volume for a machine that mounts it, made as a disk if it isn't there. A disk begins with a copy of the
    /// directory that `content` gives.
    ///
    /// # Errors
    /// The disk's, what `content` says, or [`VolumeError::Block`] when another machine has it and one of them would
    /// write.
    pub(crate) fn take_for_machine<C: AsRef<Path>, E: From<VolumeError>>(
        &self,
        name: &VolumeName,
        is_read_only: bool,
        content: impl FnOnce() -> Result<Option<C>, E>,
    ) -> Result<ForMachine, E> {
        let _changing = self.lock();
        let block = VolumeForm::Block { capacity_bytes: CAPACITY_BYTES_DEFAULT };
        let mut volume = match self.get(name) {
            Err(VolumeError::NotFound(_)) => self.make(name, BTreeMap::new(), block)?,
            got => got?,
        };
        if volume.form == VolumeForm::Open {
            self.settle(&volume, block)?;
            volume = self.get(name)?;
        }
        let VolumeForm::Block { capacity_bytes } = volume.form else {
            return Ok(ForMachine::Directory(volume.data));
        };
        let failed = |source| VolumeError::Block { name: name.clone(), source };
        if !volume.data.is_file() {
            let content = content()?;
            let content = content.as_ref().map(AsRef::as_ref);
            block::make(&volume.data, capacity_bytes, content).map_err(failed)?;
        }
        block::check_free(&volume.data, is_read_only).map_err(failed)?;
        Ok(ForMachine::Disk(volume.data))
    }

    /// Decides what a volume is.
    fn settle(&self, volume: &Volume, form: VolumeForm) -> Result<(), VolumeError> {
        let record = Record { created_at: volume.created_at, labels: volume.labels.clone(), form };
        let path = self.directory.join(volume.name.as_str());
        record.write(&path).map_err(disk("write the record of", &path))
    }

    fn volume(&self, name: &VolumeName, record: Record) -> Volume {
        let Record { created_at, labels, form } = record;
        let file = if matches!(form, VolumeForm::Block { .. }) { "disk.ext4" } else { "data" };
        let data = self.directory.join(name.as_str()).join(file);
        Volume { name: name.clone(), created_at, labels, form, data }
    }

    fn make(
        &self,
        name: &VolumeName,
        labels: BTreeMap<String, String>,
        form: VolumeForm,
    ) -> Result<Volume, VolumeError> {
        let path = self.directory.join(name.as_str());
        if path.exists() {
            return Err(VolumeError::Exists(name.clone()));
        }
        let new = self.directory.join(format!(".{name}"));
        remove_directory(&new)?;
        make_directory(&new, 0o700)?;
        // The mode of `data` is what workloads see as the mode of the mount point.
        make_directory(&new.join("data"), 0o755)?;
        let record = Record { created_at: Timestamp::from_system_time(SystemTime::now()), labels, form };
        record.write(&new).map_err(disk("write the record of", &new))?;
        fs::rename(&new, &path).map_err(disk("make", &path))?;
        let synced = File::open(&self.directory).and_then(|directory| directory.sync_all());
        synced.map_err(disk("make", &path))?;
        Ok(self.volume(name, record))
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        // The lock guards the disk, which is whole after every step.
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
