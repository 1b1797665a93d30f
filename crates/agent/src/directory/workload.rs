//! What lies in one workload's directory, and who writes it. It refuses to read or write any of it.

use std::path::{Path, PathBuf};

/// The paths in one workload's directory.
#[derive(Debug, Clone)]
pub(crate) struct WorkloadPaths {
    directory: PathBuf,
}

impl WorkloadPaths {
    /// The paths below this directory, which need not exist.
    pub(crate) const fn at(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// The directory itself: the OCI bundle.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// `spec.json`: what was asked for, for people who look. Written by the keeper.
    pub(crate) fn spec(&self) -> PathBuf {
        self.directory.join("spec.json")
    }

    /// `attempt`: which attempt the directory belongs to. Written by the keeper.
    pub(crate) fn attempt(&self) -> PathBuf {
        self.directory.join("attempt")
    }

    /// `surroundings.json`: what the workload was given at its launch. Written by the keeper.
    pub(crate) fn surroundings(&self) -> PathBuf {
        self.directory.join("surroundings.json")
    }

    /// `outcome.json`: how it ended when there is no exit status. Written by the keeper.
    pub(crate) fn outcome(&self) -> PathBuf {
        self.directory.join("outcome.json")
    }

    /// `runs.json`: how often it was started again, and when it will be. Written by the keeper.
    pub(crate) fn runs(&self) -> PathBuf {
        self.directory.join("runs.json")
    }

    /// `exit.json.new`: room on the disk for the exit record. Made by the shim before it starts the first process.
    pub(crate) fn exit_reserved(&self) -> PathBuf {
        self.directory.join("exit.json.new")
    }

    /// `exit.json`: how its first process ended. Written by the shim.
    pub(crate) fn exit(&self) -> PathBuf {
        self.directory.join("exit.json")
    }

    /// Whether it has what it was lent of a snapshot.
    pub(crate) fn has_loan(&self) -> bool {
        self.directory.join("resume").exists()
    }

    /// What holds the workload's own data, which goes with it: a container's `rootfs` (a mount point), `upper` and `work`,
    /// and a machine's disk with what it wrote, and what it was lent of a snapshot.
    pub(crate) fn disks(&self) -> [PathBuf; 6] {
        ["rootfs", "upper", "work", "writable.ext4", "writable.new", "resume"]
            .map(|name| self.directory.join(name))
    }
}
