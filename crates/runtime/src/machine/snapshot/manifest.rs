//! `snapshot.json`: what a snapshot says of itself. It may come from anywhere, so it is bounded, read strictly, and
//! checked as a whole before any of it is used. It refuses to name files that no snapshot has.

use std::{collections::BTreeMap, io::Read, path::Path};

use hypercore_model::{
    Digest, Isolation, MountSource, SnapshotName, Timestamp, WorkloadId, WorkloadSpec,
    machine::{Accelerator, Monitor},
};
use oci_spec::image::ImageConfiguration;
use serde::{Deserialize, Serialize};

use super::{
    error::{FileFault, SnapshotError},
    file,
};
use crate::machine::bundle::{self, Platform};

/// The format that this release writes and reads.
pub(super) const FORMAT: u32 = 1;
/// The file.
pub(super) const FILE: &str = "snapshot.json";
/// Largest file that is read, in bytes: a spec as large as the API takes it, and the image's configuration.
const BYTES_MAX: u64 = 16 << 20;
/// Longest version of an engine, in bytes.
const VERSION_LEN_MAX: usize = 64;

/// Every file that a snapshot may have besides its manifest, and whether it must.
pub(super) const FILES: [(&str, bool); 6] = [
    ("state", true),
    ("memory", false),
    ("writable.ext4", true),
    ("image.ext4", true),
    ("kernel", true),
    ("initrd", true),
];

/// What a snapshot says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Which format this is.
    pub(super) format: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// Of which workload.
    pub workload: WorkloadId,
    /// What was asked for then.
    pub spec: WorkloadSpec,
    /// Its image.
    pub image_digest: Digest,
    /// What the image says.
    pub image: ImageConfiguration,
    /// The machine.
    pub machine: SavedMachine,
    /// Its files, by name.
    pub(super) files: BTreeMap<String, FileRecord>,
}

/// The machine in a snapshot. Another can't go on where it stood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedMachine {
    /// Which engine wrote the state.
    pub monitor: Monitor,
    /// Of which release.
    pub version: String,
    /// What ran the guest's instructions.
    pub accelerator: Accelerator,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory of the guest, in MiB.
    pub memory_mib: u32,
    /// Whether the memory is in a file of its own, which clones can map.
    pub is_mapped: bool,
}

/// One file of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileRecord {
    pub(super) len_bytes: u64,
    /// See [`file::digest`].
    pub(super) digest: String,
}

/// What every format begins with.
#[derive(Deserialize)]
struct Head {
    format: u32,
}

impl SavedMachine {
    /// Whether what runs machines here can go on with it.
    #[must_use]
    pub fn fits(&self, here: &Platform) -> bool {
        let version = here.version.to_string();
        (self.monitor, self.accelerator, &self.version) == (here.monitor, here.accelerator, &version)
    }

    /// Engine, version and accelerator, for people.
    #[must_use]
    pub fn engine(&self) -> String {
        engine(self.monitor, &self.version, self.accelerator)
    }
}

pub(super) fn engine(monitor: Monitor, version: &str, accelerator: Accelerator) -> String {
    let accelerator = match accelerator {
        Accelerator::Kvm => "KVM",
        Accelerator::Tcg => "software emulation",
    };
    format!("{monitor} {version} with {accelerator}")
}

impl Manifest {
    /// Reads the manifest of the snapshot in `directory`, and checks it.
    pub(super) fn read(name: &SnapshotName, directory: &Path) -> Result<Self, SnapshotError> {
        let unusable = |why: String| SnapshotError::Manifest { name: name.clone(), why };
        match file::check_directory(directory) {
            Err(FileFault::Missing) => return Err(SnapshotError::NotFound(name.clone())),
            checked => checked.map_err(|why| unusable(format!("lies in a directory that {why}")))?,
        }
        let opened = file::open(&directory.join(FILE)).map_err(|why| unusable(why.to_string()))?;
        if opened.len > BYTES_MAX {
            return Err(unusable(format!("has {} bytes; at most {BYTES_MAX} are read", opened.len)));
        }
        let mut bytes = Vec::new();
        let read = opened.file.take(BYTES_MAX).read_to_end(&mut bytes);
        read.map_err(|error| unusable(format!("can't be read: {error}")))?;
        let head: Head =
            serde_json::from_slice(&bytes).map_err(|error| unusable(format!("is none: {error}")))?;
        if head.format != FORMAT {
            return Err(SnapshotError::Format { name: name.clone(), format: head.format });
        }
        let manifest: Self =
            serde_json::from_slice(&bytes).map_err(|error| unusable(format!("is none: {error}")))?;
        manifest.check().map_err(unusable)?;
        Ok(manifest)
    }

    /// Whether its parts fit each other.
    fn check(&self) -> Result<(), String> {
        if let Err(errors) = self.spec.validate() {
            let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
            return Err(format!("has a workload that can't be: {}", errors.join("; ")));
        }
        if let Some(what) = unsaved(&self.spec) {
            return Err(format!("is of a workload with {what}"));
        }
        let machine = &self.machine;
        if machine.cpus != bundle::cpus(&self.spec) || machine.memory_mib != bundle::memory_mib(&self.spec) {
            return Err("has a machine of another size than its workload's".to_owned());
        }
        let is_version = |text: &str| text.len() <= VERSION_LEN_MAX && !text.contains(char::is_control);
        if !is_version(&machine.version) {
            return Err("has an engine's version that is none".to_owned());
        }
        for (file, is_needed) in FILES {
            let is_needed = is_needed || (file == "memory" && machine.is_mapped);
            if is_needed && !self.files.contains_key(file) {
                return Err(format!("names no file {file}"));
            }
        }
        match self.files.keys().find(|file| !is_file(file)) {
            Some(file) => Err(format!("names the file `{}`, which no snapshot has", file.escape_default())),
            None => Ok(()),
        }
    }
}

/// What of a workload no snapshot holds, if it has any.
#[must_use]
pub fn unsaved(spec: &WorkloadSpec) -> Option<&'static str> {
    if spec.isolation != Isolation::MicroVm {
        return Some("a container");
    }
    spec.mounts.iter().find_map(|mount| match mount.source {
        MountSource::Bind(_) => Some("a directory of the host"),
        MountSource::Volume(_) => Some("a volume"),
        MountSource::Tmpfs { .. } => None,
    })
}

/// Whether a snapshot may have a file of that name.
pub(super) fn is_file(name: &str) -> bool {
    FILES.iter().any(|(file, _)| *file == name)
}

/// Whether a file may be the node's own, with one more name in the snapshot.
pub(super) fn is_of_node(name: &str) -> bool {
    matches!(name, "image.ext4" | "kernel" | "initrd")
}
