//! What a machine was made of, kept beside it from its start on: a snapshot has to hold those very files, whatever their
//! names mean by then. It refuses to keep what a workload was given in secret.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use hypercore_model::{Digest, machine::MachineSpec};
use oci_spec::image::ImageConfiguration;
use serde::{Deserialize, Serialize};

use super::{
    error::{SnapshotError, disk},
    file::Stamp,
    manifest::SavedMachine,
};

/// The file in the workload's directory.
const FILE: &str = "origin.json";

/// What a machine was made of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Origin {
    /// The machine.
    pub machine: SavedMachine,
    /// Its image.
    pub image_digest: Digest,
    /// What the image says.
    pub image: ImageConfiguration,
    /// The files it boots from.
    pub(super) files: [Part; 3],
}

/// A file that a machine boots from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Part {
    /// What it is called in a snapshot.
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) stamp: Stamp,
}

impl Origin {
    /// What a machine of this specification is made of. `version` is that of its monitor.
    ///
    /// # Errors
    /// A file of it can't be looked at.
    pub fn of(
        spec: &MachineSpec,
        version: String,
        image_digest: Digest,
        image: &ImageConfiguration,
    ) -> io::Result<Self> {
        let part = |name: &str, path: &Path| {
            Ok::<_, io::Error>(Part { name: name.to_owned(), path: path.to_owned(), stamp: Stamp::of(path)? })
        };
        let root = spec.disks.first().ok_or_else(|| io::Error::other("the machine has no disk"))?;
        Ok(Self {
            machine: SavedMachine {
                monitor: spec.monitor,
                version,
                accelerator: spec.accelerator,
                cpus: spec.cpus,
                memory_mib: spec.memory_mib,
                is_mapped: false,
            },
            image_digest,
            image: image.clone(),
            files: [
                part("kernel", &spec.kernel)?,
                part("initrd", &spec.initrd)?,
                part("image.ext4", &root.path)?,
            ],
        })
    }

    /// What the machine of the workload in `directory` was made of.
    ///
    /// # Errors
    /// It can't be read.
    pub fn read(directory: &Path) -> Result<Self, SnapshotError> {
        let path = directory.join(FILE);
        let read = fs::read(&path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
        read.map_err(disk("read", &path))
    }

    /// Keeps it in the workload's directory.
    ///
    /// # Errors
    /// The disk's.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        fs::write(directory.join(FILE), serde_json::to_vec(self)?)
    }
}
