//! A note beside the workload for what an exit status can't say: that its machine ended, and not its process. It is
//! written before anything can happen, for then nobody may be left to write, and taken away by an end that needs none.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::ExitStatus,
};

use hypercore_model::machine::{MachineSpec, Monitor};

/// What is true when nobody came to say anything else.
const KILLED: &str = "the process that held its machine was killed";

/// The note of one machine.
#[derive(Debug)]
pub(super) struct EndNote(PathBuf);

impl EndNote {
    /// Writes what is true if nothing more is written.
    pub(super) fn begin(spec: &MachineSpec) -> io::Result<Self> {
        let note = Self(spec.end_note());
        note.write(KILLED)?;
        Ok(note)
    }

    /// The process ended by itself: its status says it all.
    pub(super) fn forget(self) {
        // One that stays explains a SIGKILL alone, and that was none.
        let _ = fs::remove_file(&self.0);
    }

    /// The machine ended under its process: by itself, or because `server`, which gave it a directory of the host, did.
    pub(super) fn tell(
        self,
        monitor: Monitor,
        status: Option<ExitStatus>,
        server: Option<ExitStatus>,
        console: &str,
    ) {
        let ended = match (status, server) {
            (Some(status), _) => format!("{} ended ({status})", monitor.as_str()),
            (None, Some(status)) => {
                format!("virtiofsd ended ({status}), which gave the machine a directory of the host")
            }
            (None, None) => format!("the guest broke off what it said to {}", monitor.as_str()),
        };
        let console =
            if console.is_empty() { String::new() } else { format!("; its console ends with: {console}") };
        // What was written before is less precise, and not wrong.
        let _ = self.write(&format!("{ended}{console}"));
    }

    fn write(&self, text: &str) -> io::Result<()> {
        let new = self.0.with_extension("new");
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600).open(&new)?.write_all(text.as_bytes())?;
        fs::rename(&new, Path::new(&self.0))
    }
}
