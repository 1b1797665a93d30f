//! `exit.json`: how the workload ended, for an agent that wasn't there. Its room on disk is taken when the workload
//! starts, so that a disk that is full by then can't lose it. It refuses to appear before it is whole and durable.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use hypercore_model::{ExitStatus, Timestamp, exit::ExitRecord};
use hypercore_wire::message::{Exit, Exited};

/// Length of the file, in bytes; what the record leaves is spaces, which JSON allows.
const LEN: usize = 256;

/// A record that is yet to be written.
#[derive(Debug)]
pub(super) struct ExitRecordFile {
    file: File,
    /// Under which name it waits.
    reserved: PathBuf,
    directory: PathBuf,
}

impl ExitRecordFile {
    /// Takes the room for a record in `directory`.
    pub(super) fn reserve(directory: &Path) -> io::Result<Self> {
        let reserved = directory.join("exit.json.new");
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&reserved)?;
        file.write_all_at(&[b' '; LEN], 0)?;
        Ok(Self { file, reserved, directory: directory.to_owned() })
    }

    /// Writes the record and gives it its name. It is durable when this returns.
    pub(super) fn write(self, exited: &Exited, lost_output_bytes: u64) -> io::Result<()> {
        let exit = match exited.exit {
            Exit::Code(code) => ExitStatus::Code(code),
            Exit::Signal(signal) => ExitStatus::Signal(signal),
            Exit::OutOfMemory => ExitStatus::OutOfMemory,
        };
        let started_at = Timestamp::from_unix_ms(exited.started_at_ms);
        let finished_at = Timestamp::from_unix_ms(exited.finished_at_ms);
        let mut json = serde_json::to_vec(&ExitRecord { exit, started_at, finished_at, lost_output_bytes })?;
        json.resize(LEN.max(json.len()), b' ');
        self.file.write_all_at(&json, 0)?;
        // Neither length nor place changes, so that the data alone make it durable.
        self.file.sync_data()?;
        fs::rename(&self.reserved, self.directory.join("exit.json"))?;
        File::open(&self.directory)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_appears_whole_and_readable() {
        let root = tempfile::tempdir().unwrap();
        let file = ExitRecordFile::reserve(root.path()).unwrap();
        assert!(!root.path().join("exit.json").exists());
        file.write(&Exited { exit: Exit::OutOfMemory, started_at_ms: 5, finished_at_ms: u64::MAX }, u64::MAX)
            .unwrap();
        assert_eq!(
            fs::metadata(root.path().join("exit.json")).unwrap().len(),
            LEN as u64,
            "no room was missing"
        );
        let record: ExitRecord =
            serde_json::from_slice(&fs::read(root.path().join("exit.json")).unwrap()).unwrap();
        assert_eq!((record.exit, record.started_at.unix_ms()), (ExitStatus::OutOfMemory, 5));
        assert_eq!(record.lost_output_bytes, u64::MAX);
        assert!(!root.path().join("exit.json.new").exists());
    }
}
