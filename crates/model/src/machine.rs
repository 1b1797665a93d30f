//! What a microVM's machine is made of, as the runtime hands it to whatever holds the machine.
//! It refuses to know how any monitor is told so.

use std::{net::IpAddr, path::PathBuf, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::io_limits::IoLimits;

mod version;

pub use version::{MonitorVersion, VersionError};

/// The program that runs the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Monitor {
    /// Firecracker; needs KVM.
    Firecracker,
    /// Cloud Hypervisor; needs KVM.
    CloudHypervisor,
    /// QEMU; with KVM or in software.
    Qemu,
}

impl Monitor {
    /// All of them, in the order in which a node that may choose prefers them.
    pub const ALL: [Self; 3] = [Self::Firecracker, Self::CloudHypervisor, Self::Qemu];

    /// `firecracker`, `cloud-hypervisor` or `qemu`: how it is written in commands and files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Firecracker => "firecracker",
            Self::CloudHypervisor => "cloud-hypervisor",
            Self::Qemu => "qemu",
        }
    }
}

/// Not the name of a monitor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` runs no microVMs: what does is `firecracker`, `cloud-hypervisor` or `qemu`")]
pub struct UnknownMonitor(String);

impl FromStr for Monitor {
    type Err = UnknownMonitor;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|monitor| monitor.as_str() == text);
        known.ok_or_else(|| UnknownMonitor(text.escape_default().to_string()))
    }
}

/// What runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// The processor itself.
    Kvm,
    /// QEMU's translator: every host can, slowly.
    Tcg,
}

impl Accelerator {
    /// `kvm` or `tcg`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// A disk of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineDisk {
    /// How the guest finds it.
    pub serial: String,
    /// A raw image on the host.
    pub path: PathBuf,
    /// Whether the machine may only read it.
    pub read_only: bool,
}

/// A directory of the host in a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineShare {
    /// How the guest finds it.
    pub tag: String,
    /// The directory, without links on the way to it.
    pub directory: PathBuf,
    /// Whether the machine may only read it.
    pub read_only: bool,
    /// The program that serves it: virtiofsd.
    pub program: PathBuf,
}

/// How a machine is on the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineNetwork {
    /// The TAP device on the host that is the other end of the machine's link.
    pub tap: String,
    /// The network namespace that the monitor runs in, where there is nothing to reach.
    pub netns: PathBuf,
    /// The machine's hardware address, such as `02:00:00:00:00:01`; the same as the device's on the host.
    pub hardware_address: String,
    /// Its addresses with their prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Where packets for elsewhere go.
    pub gateways: Vec<IpAddr>,
    /// The text of `/etc/resolv.conf`.
    pub resolv_conf: String,
    /// The text of `/etc/hosts`.
    pub hosts: String,
}

/// A mount inside the machine besides its root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineMount {
    /// A disk's serial or a share's tag; empty for memory.
    pub source: String,
    /// `ext4`, `virtiofs` or `tmpfs`.
    pub kind: String,
    /// Where, absolute.
    pub target: String,
    /// Whether the workload may only read it.
    pub read_only: bool,
    /// Most bytes, for memory; 0 is the kernel's default.
    pub size_bytes: u64,
}

/// The workload's first process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineProcess {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// `KEY=VALUE`.
    pub env: Vec<String>,
    /// Working directory, absolute.
    pub workdir: String,
    /// `name|uid[:group|gid]`; empty is root.
    pub user: String,
    /// Give it a terminal.
    pub tty: bool,
    /// Keep its standard input open.
    pub stdin_open: bool,
}

/// The signal (`SIGSTKFLT`, which nothing else uses) that has a machine's stand-in kill its process in the guest. SIGKILL
/// would end the machine itself, with all that its kernel has not yet written to its disks.
pub const KILL_INSIDE: i32 = 16;

/// The name of the note, beside [`MachineSpec::oom_events`], of why a machine ended under its workload.
pub const END_NOTE: &str = "machine-end";

impl MachineSpec {
    /// Where a machine's monitor notes that it ended under its workload.
    #[must_use]
    pub fn end_note(&self) -> PathBuf {
        self.oom_events.with_file_name(END_NOTE)
    }
}

/// A whole machine. It lies in memory alone, because of what its process's environment may hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineSpec {
    /// Which kind of monitor.
    pub monitor: Monitor,
    /// Its program.
    pub program: PathBuf,
    /// What runs the guest's instructions.
    pub accelerator: Accelerator,
    /// The guest's kernel.
    pub kernel: PathBuf,
    /// The guest's initramfs.
    pub initrd: PathBuf,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory of the guest, in MiB.
    pub memory_mib: u32,
    /// CPU time of the whole machine, in thousandths of one CPU; `None` is as much as it has CPUs.
    pub cpu_millis: Option<u32>,
    /// The disks: `image` and `writable` first, then volumes.
    pub disks: Vec<MachineDisk>,
    /// Directories of the host.
    #[serde(default)]
    pub shares: Vec<MachineShare>,
    /// What its disks and its network may do; the size of its own disk is that of its file.
    #[serde(default)]
    pub io: IoLimits,
    /// The network; `None` is none.
    pub network: Option<MachineNetwork>,
    /// The machine's name.
    pub hostname: String,
    /// The workload may not write to its root.
    pub read_only: bool,
    /// What is mounted besides.
    pub mounts: Vec<MachineMount>,
    /// The first process.
    pub process: MachineProcess,
    /// Most processes and threads of the workload at a time; `None` is no limit.
    #[serde(default)]
    pub pids_max: Option<u32>,
    /// The workload's cgroup, relative to the mounts of the hierarchies, beginning with `/`.
    pub cgroup: PathBuf,
    /// Where the guest's console is written to.
    pub console_log: PathBuf,
    /// Where a kill for lack of memory in the guest is counted, as `oom_kill N`.
    pub oom_events: PathBuf,
    /// How long the guest may take to its first word, in milliseconds.
    #[serde(default = "boot_time_max_default")]
    pub boot_time_max_ms: u64,
    /// The snapshot to go on from; `None` boots.
    #[serde(default)]
    pub resume: Option<MachineResume>,
    /// User and group that the monitor becomes where it can give up being root; nobody else's.
    #[serde(default)]
    pub monitor_id: Option<u32>,
}

/// A snapshot that a machine goes on from, as another one: with an identity of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineResume {
    /// Where its files `state` and `memory` are. Nothing writes to them.
    pub directory: PathBuf,
    /// Its memory is the file `memory`, which is mapped; else it is within the state.
    pub is_mapped: bool,
}

/// What a guest in software takes at most on a loaded host, with as much again.
pub const BOOT_TIME_MAX_MS_DEFAULT: u64 = 50_000;

const fn boot_time_max_default() -> u64 {
    BOOT_TIME_MAX_MS_DEFAULT
}

#[cfg(test)]
mod tests {
    use serde::de::{
        IntoDeserializer as _,
        value::{Error, StrDeserializer},
    };

    use super::*;

    #[test]
    fn a_monitor_is_known_by_its_name_alone() {
        for monitor in Monitor::ALL {
            assert_eq!(monitor.as_str().parse(), Ok(monitor));
            let named: StrDeserializer<'_, Error> = monitor.as_str().into_deserializer();
            assert_eq!(Monitor::deserialize(named), Ok(monitor));
        }
        for other in ["", "QEMU", "auto", "qemu-system-x86_64"] {
            assert!(other.parse::<Monitor>().is_err(), "{other}");
        }
    }
}
