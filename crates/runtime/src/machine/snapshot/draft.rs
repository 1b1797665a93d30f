//! A snapshot that is being made: a directory under another name, until everything in it is on the disk.
//! It refuses to leave anything when it isn't committed.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use hypercore_model::{SnapshotName, Timestamp, WorkloadId, WorkloadSpec};

use super::{
    Snapshot, SnapshotStore, UNFINISHED,
    error::{SnapshotError, disk},
    file::{self, Stamp},
    manifest::{self, FileRecord, Manifest},
    origin::{Origin, Part},
    seal::Seal,
};

/// A snapshot that is being made. Dropped, it leaves nothing.
#[derive(Debug)]
pub struct Draft {
    store: SnapshotStore,
    name: SnapshotName,
    directory: PathBuf,
    origin: Origin,
}

impl Draft {
    pub(super) fn begin(
        store: &SnapshotStore,
        name: &SnapshotName,
        origin: &Origin,
    ) -> Result<Self, SnapshotError> {
        if store.path(name).symlink_metadata().is_ok() {
            return Err(SnapshotError::Exists(name.clone()));
        }
        let mut word = [0; 8];
        getrandom::fill(&mut word)
            .map_err(|error| disk("name", &store.directory)(io::Error::other(error)))?;
        // Whoever still writes for an agent that was killed writes elsewhere.
        let directory = store.directory.join(format!("{name}.{}{UNFINISHED}", hex::encode(word)));
        file::make_directory(&directory)?;
        let draft = Self { store: store.clone(), name: name.clone(), directory, origin: origin.clone() };
        draft.check_origin()?;
        Ok(draft)
    }

    /// Whether what the machine booted from is still there.
    fn check_origin(&self) -> Result<(), SnapshotError> {
        let is_same = |part: &&Part| Stamp::of(&part.path).ok() == Some(part.stamp);
        match self.origin.files.iter().find(|part| !is_same(part)) {
            Some(part) => Err(SnapshotError::Replaced(part.path.clone())),
            None => Ok(()),
        }
    }

    /// Where the machine's engine writes `state`, `writable.ext4`, and `memory` if it can be mapped; empty.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Makes it a snapshot. Blocks until all of it is on the disk.
    ///
    /// # Errors
    /// [`SnapshotError::Unwritten`], [`SnapshotError::Exists`] when somebody was faster, or the disk's; nothing is left.
    pub fn commit(
        self,
        workload: WorkloadId,
        spec: &WorkloadSpec,
        now: Timestamp,
    ) -> Result<Snapshot, SnapshotError> {
        self.check_origin()?;
        for part in &self.origin.files {
            file::link(&part.path, &self.directory.join(&part.name))?;
        }
        let (files, seal) = self.record()?;
        let mut machine = self.origin.machine.clone();
        machine.is_mapped = files.contains_key("memory");
        let manifest = Manifest {
            format: manifest::FORMAT,
            created_at: now,
            workload,
            spec: WorkloadSpec { snapshot: None, ..spec.clone() },
            image_digest: self.origin.image_digest,
            image: self.origin.image.clone(),
            machine,
            files,
        };
        self.write(&manifest)?;
        let _changing = self.store.alone();
        let path = self.store.path(&self.name);
        if path.symlink_metadata().is_ok() {
            return Err(SnapshotError::Exists(self.name.clone()));
        }
        fs::rename(&self.directory, &path).map_err(disk("name", &path))?;
        sync(&self.store.directory)?;
        seal.write(&self.store.seal(&self.name))?;
        self.store.get(&self.name)
    }

    /// Brings every file to the disk, and takes its length and digest.
    fn record(&self) -> Result<(BTreeMap<String, FileRecord>, Seal), SnapshotError> {
        let (mut files, mut seal) = (BTreeMap::new(), Seal::default());
        for (name, is_needed) in manifest::FILES {
            let path = self.directory.join(name);
            if !path.exists() {
                if is_needed {
                    return Err(SnapshotError::Unwritten(name));
                }
                continue;
            }
            let opened = file::open(&path).map_err(|why| SnapshotError::file(&self.name, name, why))?;
            opened.file.sync_all().map_err(disk("write", &path))?;
            let digest = file::digest(&opened.file).map_err(disk("read", &path))?;
            seal.add(name, &opened);
            files.insert(name.to_owned(), FileRecord { len_bytes: opened.len, digest });
        }
        Ok((files, seal))
    }

    fn write(&self, manifest: &Manifest) -> Result<(), SnapshotError> {
        let path = self.directory.join(manifest::FILE);
        let written = || {
            let mut file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
            file.write_all(&serde_json::to_vec_pretty(manifest)?)?;
            file.sync_all()
        };
        written().map_err(disk("write", &path))?;
        sync(&self.directory)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Once it is committed, there is nothing under this name; what stays is swept at the next start.
        let _ = file::remove_tree(&self.directory);
    }
}

fn sync(directory: &Path) -> Result<(), SnapshotError> {
    File::open(directory).and_then(|file| file.sync_all()).map_err(disk("write", directory))
}
