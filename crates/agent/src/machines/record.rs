//! What was found out by booting guests with KVM, kept as `kvm-probe.json` in the data directory: an agent's restart
//! doesn't try again what it knows. It refuses what was found out before the host was booted, with another kernel or
//! with another program.

use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use hypercore_model::machine::Monitor;
use hypercore_runtime::machine::kernel::Kernel;
use serde::{Deserialize, Serialize};

use super::monitors::FoundMonitor;

/// The file in the data directory.
const FILE: &str = "kvm-probe.json";
/// Which boot of the host this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What a trial depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Subject {
    boot_id: String,
    monitor: Monitor,
    program: PathBuf,
    version: String,
    kernel: PathBuf,
    kernel_release: String,
    /// When the kernel's file was changed, in milliseconds since the epoch.
    kernel_modified_ms: u64,
}

impl Subject {
    /// What a trial of this engine with this kernel would depend on now.
    pub(super) fn now(monitor: Monitor, found: &FoundMonitor, kernel: &Kernel) -> io::Result<Self> {
        let modified = fs::metadata(&kernel.image)?.modified()?;
        let since_epoch = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self {
            boot_id: fs::read_to_string(BOOT_ID)?.trim().to_owned(),
            monitor,
            program: found.program.clone(),
            version: found.version.to_string(),
            kernel: kernel.image.clone(),
            kernel_release: kernel.release.clone(),
            kernel_modified_ms: u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX),
        })
    }
}

/// What came of a trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Trial {
    pub(super) subject: Subject,
    /// Why no guest came up; `None` when one did.
    pub(super) fault: Option<String>,
}

/// The trials that are known.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Record {
    trials: Vec<Trial>,
}

impl Record {
    /// Reads what is kept. What can't be read is tried again, and says nothing.
    pub(super) fn read(data_directory: &Path) -> Self {
        let bytes = fs::read(data_directory.join(FILE)).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// What is known of exactly this.
    pub(super) fn of(&self, subject: &Subject) -> Option<&Trial> {
        self.trials.iter().find(|trial| trial.subject == *subject)
    }

    /// Notes a trial in place of earlier ones of the engine, and drops those of another boot.
    pub(super) fn note(&mut self, trial: Trial) {
        let new = &trial.subject;
        self.trials.retain(|old| old.subject.boot_id == new.boot_id && old.subject.monitor != new.monitor);
        self.trials.push(trial);
    }

    /// Keeps it, whole or not at all.
    pub(super) fn write(&self, data_directory: &Path) -> io::Result<()> {
        let path = data_directory.join(FILE);
        let new = path.with_extension("new");
        let file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        serde_json::to_writer(file, self)?;
        fs::rename(&new, &path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(monitor: Monitor, boot_id: &str) -> Subject {
        Subject {
            boot_id: boot_id.to_owned(),
            monitor,
            program: "/p".into(),
            version: "7.2.0".into(),
            kernel: "/k".into(),
            kernel_release: "6.1".into(),
            kernel_modified_ms: 7,
        }
    }

    #[test]
    fn what_is_kept_is_read_back_and_of_this_alone() {
        let directory = tempfile::tempdir().unwrap();
        let mut record = Record::read(directory.path());
        let trial = Trial { subject: subject(Monitor::Qemu, "a"), fault: Some("silent".into()) };
        record.note(trial.clone());
        record.write(directory.path()).unwrap();
        let record = Record::read(directory.path());
        assert_eq!(record.of(&trial.subject), Some(&trial));
        let known = &trial.subject;
        for other in [
            Subject { boot_id: "b".into(), ..known.clone() },
            Subject { version: "8.0.0".into(), ..known.clone() },
            Subject { kernel_release: "6.2".into(), ..known.clone() },
            Subject { kernel_modified_ms: 8, ..known.clone() },
            Subject { program: "/q".into(), ..known.clone() },
        ] {
            assert_eq!(record.of(&other), None, "{other:?}");
        }
    }

    #[test]
    fn one_trial_of_an_engine_and_none_of_another_boot_is_kept() {
        let mut record = Record::default();
        for (monitor, boot_id) in
            [(Monitor::Qemu, "a"), (Monitor::Firecracker, "b"), (Monitor::Qemu, "b"), (Monitor::Qemu, "b")]
        {
            record.note(Trial { subject: subject(monitor, boot_id), fault: None });
        }
        let kept: Vec<_> = record.trials.iter().map(|trial| trial.subject.monitor).collect();
        assert_eq!(kept, [Monitor::Firecracker, Monitor::Qemu]);
    }

    #[test]
    fn a_damaged_record_is_none() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FILE), "{\"trials\": 7}").unwrap();
        assert!(Record::read(directory.path()).trials.is_empty());
    }
}
