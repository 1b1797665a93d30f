//! `volume.json`: when a volume was made, its labels, and what it is on the disk. It refuses to be half written.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

use hypercore_model::Timestamp;
use serde::{Deserialize, Serialize};

/// What a volume is on the disk. Its first use decides it, and it stays so: nothing is converted behind anybody's back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeForm {
    /// A directory of the host: for containers, and for microVMs through virtiofsd. Records from before there were
    /// others say nothing.
    #[default]
    Directory,
    /// Neither yet: it has not been used.
    Open,
    /// A filesystem of its own in a file, for microVMs.
    Block {
        /// How much it can hold, with what the filesystem needs for itself, in bytes.
        capacity_bytes: u64,
    },
}

impl VolumeForm {
    /// `directory` or `block`; empty while it is neither.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Open => "",
            Self::Block { .. } => "block",
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) created_at: Timestamp,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) form: VolumeForm,
}

impl Record {
    pub(super) fn read(directory: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&fs::read(directory.join("volume.json"))?)?)
    }

    /// Writes it, in place of the one that is there.
    pub(super) fn write(&self, directory: &Path) -> io::Result<()> {
        let new = directory.join("volume.json.new");
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(&new, directory.join("volume.json"))
    }
}
