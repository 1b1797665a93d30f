//! What this node runs microVMs with: found when the agent starts, or the reason why there are none.
//! It refuses to promise what was not tried: KVM is used only where it was asked for by name.

use std::path::{Path, PathBuf};

use hypercore_model::machine::{Accelerator, Monitor};
use hypercore_runtime::machine::{
    bundle::Platform,
    kernel::{Kernel, KernelError},
};

use crate::programs::find_program;

mod monitors;

pub use monitors::{FoundMonitor, MonitorError, find_monitor};

/// Where `doctor --fix` puts one, in the data directory.
const KERNEL_OF_NODE: &str = "kernel";
/// Where a package may bring a kernel.
const KERNEL_OF_HOST: &str = "/usr/lib/hypercore/kernel";

/// Settings of microVMs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MachineSettings {
    /// Which monitor; `None` takes the best that works.
    pub monitor: Option<Monitor>,
    /// The guests' kernel, or an unpacked kernel package; `None` looks in the data directory and where packages put it.
    pub kernel: Option<PathBuf>,
}

/// Why this node runs no microVMs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unavailable {
    /// The monitor is not installed, or of a release that can't be used.
    #[error(transparent)]
    Monitor(#[from] MonitorError),
    /// No kernel for the guests.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The guest agent is not installed.
    #[error("the guest agent {} is not installed", .0.display())]
    NoAgent(PathBuf),
}

/// What runs microVMs here.
#[derive(Debug)]
pub(crate) struct Machines(Result<Platform, Unavailable>);

impl Machines {
    /// Looks for everything; `data_directory` is the node's own.
    pub(crate) fn find(settings: &MachineSettings, data_directory: &Path) -> Self {
        Self(find(settings, data_directory, find_program("hypercore-guest")))
    }

    /// The platform, or why there is none.
    pub(crate) fn platform(&self) -> Result<&Platform, &Unavailable> {
        self.0.as_ref()
    }
}

fn find(
    settings: &MachineSettings,
    data_directory: &Path,
    agent: Result<PathBuf, PathBuf>,
) -> Result<Platform, Unavailable> {
    let monitor = settings.monitor.unwrap_or(Monitor::Qemu);
    let FoundMonitor { program, .. } = find_monitor(monitor)?;
    let agent = agent.map_err(Unavailable::NoAgent)?;
    let kernel = find_kernel(settings.kernel.as_deref(), data_directory)?;
    let cache = data_directory.join("images/vm");
    let accelerator = match monitor {
        Monitor::Qemu => Accelerator::Tcg,
        // Neither can do without.
        Monitor::Firecracker | Monitor::CloudHypervisor => Accelerator::Kvm,
    };
    Ok(Platform { monitor, program, accelerator, kernel, agent, cache })
}

/// QEMU's program, where the agent looks for it.
#[must_use]
pub fn find_qemu() -> Option<PathBuf> {
    find_monitor(Monitor::Qemu).ok().map(|found| found.program)
}

/// The kernel that microVMs boot on a node with this data directory: the one that the configuration names, or the one
/// in the data directory, or the one that a package brought.
///
/// # Errors
/// [`KernelError`], of the first of these that is there.
pub fn find_kernel(named: Option<&Path>, data_directory: &Path) -> Result<Kernel, KernelError> {
    let own = data_directory.join(KERNEL_OF_NODE);
    match named {
        Some(path) if path.is_dir() => Kernel::in_tree(path),
        Some(path) => Kernel::at(path),
        None if own.is_dir() => Kernel::in_tree(&own),
        None if Path::new(KERNEL_OF_HOST).is_dir() => Kernel::in_tree(Path::new(KERNEL_OF_HOST)),
        None => Err(KernelError::Missing(own)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let scratch = tempfile::tempdir().unwrap();
        let of = |monitor, agent| {
            let settings = MachineSettings { monitor, kernel: Some(scratch.path().join("none")) };
            find(&settings, scratch.path(), agent).unwrap_err()
        };
        let agent = scratch.path().join("hypercore-guest");
        assert!(matches!(of(None, Err(agent.clone())), Unavailable::Monitor(_) | Unavailable::NoAgent(_)));
        for monitor in [None, Some(Monitor::Firecracker), Some(Monitor::CloudHypervisor)] {
            let error = of(monitor, Ok(agent.clone()));
            assert!(matches!(error, Unavailable::Monitor(_) | Unavailable::Kernel(_)), "{error}");
        }
    }
}
