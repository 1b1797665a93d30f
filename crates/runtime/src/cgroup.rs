//! Control groups of workloads: where they are, which limits go into the OCI spec, what they use, how their processes
//! are held still, and their removal.
//! It refuses to kill: a cgroup with processes in it stays, and the error names them.
//!
//! ```text
//!   <hierarchy>/hypercore-<instance>/<workload id>        in every v1 hierarchy, and in the unified one
//! ```
//! The engine makes the cgroups (libcontainer joins what `linux.cgroupsPath` says); this module finds them again.

mod freezer;
mod layout;
mod resources;
mod tree;
mod usage;

use std::{collections::BTreeSet, path::PathBuf};

use hypercore_model::{WorkloadId, WorkloadSpec};
use oci_spec::runtime::LinuxResources;

pub use freezer::FreezeError;
pub use layout::{CgroupLayout, DetectError};
pub use tree::{RemoveError, Swept};
pub use usage::{Usage, UsageError};

use freezer::Freezer;

/// The cgroup under which one node keeps all of its workloads, in every hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupParent(String);

/// Why a text can't name a node's cgroup.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an instance name: 1 to 64 letters, digits, `-` or `_`")]
pub struct InstanceError(String);

impl CgroupParent {
    /// The parent of the node with this instance name.
    ///
    /// # Errors
    /// [`InstanceError`] unless the name is 1 to 64 ASCII letters, digits, `-` or `_`: it becomes a directory name.
    pub fn new(instance: &str) -> Result<Self, InstanceError> {
        let is_name = (1..=64).contains(&instance.len())
            && instance.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if is_name {
            Ok(Self(format!("/hypercore-{instance}")))
        } else {
            Err(InstanceError(instance.to_owned()))
        }
    }

    /// The parent's path from the root of any hierarchy: `/hypercore-<instance>`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.0
    }

    /// A workload's `linux.cgroupsPath`: `/hypercore-<instance>/<id>`.
    #[must_use]
    pub fn path_of(&self, id: WorkloadId) -> String {
        format!("{}/{id}", self.0)
    }
}

/// The cgroups of one node's workloads. All calls are synchronous and take microseconds: files of cgroupfs only.
#[derive(Debug, Clone)]
pub struct Cgroups {
    layout: CgroupLayout,
    parent: CgroupParent,
}

impl Cgroups {
    /// The cgroups below `parent` on a host with this layout.
    #[must_use]
    pub fn new(layout: CgroupLayout, parent: CgroupParent) -> Self {
        Self { layout, parent }
    }

    /// Where the host has its hierarchies.
    #[must_use]
    pub fn layout(&self) -> &CgroupLayout {
        &self.layout
    }

    /// A workload's `linux.cgroupsPath`.
    #[must_use]
    pub fn path_of(&self, id: WorkloadId) -> String {
        self.parent.path_of(id)
    }

    /// The limits of a spec, as the OCI runtime spec has them.
    #[must_use]
    pub fn resources(&self, spec: &WorkloadSpec) -> LinuxResources {
        resources::of_spec(spec, self.layout.accounts_swap())
    }

    /// What a workload uses now.
    ///
    /// # Errors
    /// [`UsageError::Absent`] when it has no cgroup; [`UsageError::Read`] or [`UsageError::Malformed`] by file.
    pub fn usage(&self, id: WorkloadId) -> Result<Usage, UsageError> {
        usage::read(&self.layout, &self.path_of(id))
    }

    /// How many of the workload's processes the kernel killed because its memory limit was reached.
    ///
    /// # Errors
    /// As [`Self::usage`].
    pub fn oom_kills(&self, id: WorkloadId) -> Result<u64, UsageError> {
        usage::oom_kills(&self.layout, &self.path_of(id))
    }

    /// The file whose `oom_kill` line counts what the kernel killed in the workload for lack of memory.
    #[must_use]
    pub fn oom_events(&self, id: WorkloadId) -> PathBuf {
        usage::oom_events(&self.layout, &self.path_of(id))
    }

    /// Holds all processes of the workload where they are; returns when they are held. Blocks for milliseconds, for
    /// seconds when a process is stuck in the kernel.
    ///
    /// # Errors
    /// [`FreezeError::Absent`] when it has no cgroup, [`FreezeError::Slow`] when they did not freeze; then they run on.
    pub fn freeze(&self, id: WorkloadId) -> Result<(), FreezeError> {
        Freezer::of(&self.layout, &self.path_of(id)).freeze()
    }

    /// Lets the workload's processes go on. Fine with one that isn't frozen.
    ///
    /// # Errors
    /// [`FreezeError::Absent`] when it has no cgroup.
    pub fn thaw(&self, id: WorkloadId) -> Result<(), FreezeError> {
        Freezer::of(&self.layout, &self.path_of(id)).thaw()
    }

    /// Whether the workload's processes are held, or about to be.
    ///
    /// # Errors
    /// [`FreezeError::Absent`] when it has no cgroup.
    pub fn is_frozen(&self, id: WorkloadId) -> Result<bool, FreezeError> {
        Freezer::of(&self.layout, &self.path_of(id)).is_frozen()
    }

    /// Processes inside the workload's cgroup, in ascending order; none when it has no cgroup.
    ///
    /// # Errors
    /// [`RemoveError::Read`].
    pub fn processes(&self, id: WorkloadId) -> Result<BTreeSet<u32>, RemoveError> {
        tree::processes(&self.directories_of(&self.path_of(id)))
    }

    /// Removes the workload's cgroup from every hierarchy. One that doesn't exist is fine.
    ///
    /// # Errors
    /// [`RemoveError::Busy`] names the processes that are still inside.
    pub fn remove(&self, id: WorkloadId) -> Result<(), RemoveError> {
        tree::remove(&self.directories_of(&self.path_of(id)))
    }

    /// Removes the cgroup of every workload that is not among those to keep. Those with processes inside stay and are
    /// reported. `keep` is asked after looking, so that a cgroup that was made meanwhile is not touched.
    ///
    /// # Errors
    /// [`RemoveError::Read`] or [`RemoveError::Rmdir`].
    pub fn sweep(&self, keep: impl FnOnce() -> BTreeSet<WorkloadId>) -> Result<Swept, RemoveError> {
        tree::sweep(&self.directories_of(self.parent.path()), keep)
    }

    /// Removes the node's parent cgroup, for a node that is shut down for good.
    ///
    /// # Errors
    /// [`RemoveError::Busy`] while any workload's process is inside.
    pub fn close(&self) -> Result<(), RemoveError> {
        tree::remove(&self.directories_of(self.parent.path()))
    }

    fn directories_of(&self, path: &str) -> Vec<PathBuf> {
        self.layout.hierarchies().map(|mount| mount.join(path.trim_start_matches('/'))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_one_directory_name() {
        let parent = CgroupParent::new("a-1_B").unwrap();
        let id = WorkloadId::from_bytes([0; 16]);
        assert_eq!(parent.path_of(id), "/hypercore-a-1_B/00000000-0000-0000-0000-000000000000");
        for name in ["", "a/b", "..", "a b", &"x".repeat(65)] {
            assert_eq!(CgroupParent::new(name), Err(InstanceError(name.into())));
        }
    }
}
