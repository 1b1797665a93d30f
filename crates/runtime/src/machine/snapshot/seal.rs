//! A seal says which files of a snapshot were compared with their digests: by what no copy of them has. So a snapshot
//! that was made here is used without being read again, and one that came from elsewhere is read once.
//! It refuses to be believed from the snapshot's own directory: it lies beside it.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use serde::{Deserialize, Serialize};

use super::{
    error::{SnapshotError, disk},
    file::{Opened, Stamp},
};

/// The files of one snapshot that were compared.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seal(BTreeMap<String, Stamp>);

impl Seal {
    /// The seal in that file; one that isn't there or can't be read seals nothing.
    pub(super) fn read(path: &Path) -> Self {
        let read = fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        read.unwrap_or_default()
    }

    /// Says that this file was compared.
    pub(super) fn add(&mut self, file: &str, opened: &Opened) {
        self.0.insert(file.to_owned(), opened.stamp);
    }

    /// Whether this very file was compared.
    pub(super) fn has(&self, file: &str, opened: &Opened) -> bool {
        self.0.get(file) == Some(&opened.stamp)
    }

    /// Writes it, whole or not at all. Whoever writes the same one meanwhile writes the same.
    pub(super) fn write(&self, path: &Path) -> Result<(), SnapshotError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let new = path.with_extension(format!("{}.new", COUNT.fetch_add(1, Ordering::Relaxed)));
        let bytes = serde_json::to_vec(self).map_err(|error| disk("write", path)(error.into()))?;
        let written = fs::write(&new, bytes).and_then(|()| fs::rename(&new, path));
        written.map_err(disk("write", path))
    }
}
