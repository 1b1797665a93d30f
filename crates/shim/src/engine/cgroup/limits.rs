//! A workload's limits, from the runtime spec into the files of its cgroup.
//! They are written last, just before the program may run: earlier they would slow down or choke its own making.
//! It refuses limits it doesn't know rather than to let a workload run without them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use libcontainer::oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};

use super::{Cgroup, MOUNTS};

/// The v2 controllers that limits need, switched on from the root of the tree down.
const V2_CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// Devices that every container may use: null, zero, full, random, urandom, tty, console, ptmx and its terminals.
const DEVICES: [&str; 9] = [
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:1 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
];

/// Why a workload isn't limited as was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LimitError {
    /// A kind of limit nobody has taught the engine.
    #[error("the limits on {0} are not supported")]
    Unsupported(&'static str),
    /// The host has no controller for it.
    #[error("the host has no cgroup controller for {0}")]
    NoController(&'static str),
    /// The kernel refuses the value.
    #[error("{value} can't be written to {}", file.display())]
    Write {
        /// The cgroup's file.
        file: PathBuf,
        /// What was to be written.
        value: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl Cgroup {
    /// Writes `resources`. Devices beyond the default ones are denied, whatever the spec says about them.
    pub(crate) fn limit(&self, resources: &LinuxResources) -> Result<(), LimitError> {
        check_supported(resources)?;
        // A hybrid host has its controllers in v1; its v2 tree is empty.
        if !self.v1.is_empty() {
            return self.limit_v1(resources);
        }
        self.v2.as_ref().map_or(Ok(()), |directory| limit_v2(directory, resources))
    }

    fn limit_v1(&self, resources: &LinuxResources) -> Result<(), LimitError> {
        if let Some(directory) = self.v1.iter().find(|directory| directory.join("devices.deny").exists()) {
            write(directory, "devices.deny", "a")?;
            DEVICES.iter().try_for_each(|device| write(directory, "devices.allow", device))?;
        }
        for (what, file, value) in v1_values(resources) {
            let directory = self.v1.iter().find(|directory| directory.join(file).exists());
            write(directory.ok_or(LimitError::NoController(what))?, file, &value)?;
        }
        Ok(())
    }
}

fn check_supported(resources: &LinuxResources) -> Result<(), LimitError> {
    let cpu = resources.cpu().clone().unwrap_or_default();
    let memory = resources.memory().unwrap_or_default();
    for (what, is_given) in [
        ("block devices", resources.block_io().is_some()),
        ("huge pages", resources.hugepage_limits().as_ref().is_some_and(|limits| !limits.is_empty())),
        ("network classes", resources.network().is_some()),
        ("RDMA", resources.rdma().as_ref().is_some_and(|limits| !limits.is_empty())),
        ("cgroup v2 files", resources.unified().as_ref().is_some_and(|files| !files.is_empty())),
        ("chosen CPUs", cpu.cpus().is_some() || cpu.mems().is_some()),
        ("real-time CPU", cpu.realtime_runtime().is_some() || cpu.realtime_period().is_some()),
        ("CPU bursts", cpu.burst().is_some() || cpu.idle().is_some()),
        ("kernel memory", memory.kernel().is_some() || memory.kernel_tcp().is_some()),
        ("memory reservations", memory.reservation().is_some() || memory.swappiness().is_some()),
    ] {
        if is_given {
            return Err(LimitError::Unsupported(what));
        }
    }
    Ok(())
}

/// What to write, in this order: the period before the quota it is for, memory before memory with swap.
fn v1_values(resources: &LinuxResources) -> Vec<(&'static str, &'static str, String)> {
    let mut values = Vec::new();
    let mut add = |what, file, value: Option<String>| values.extend(value.map(|value| (what, file, value)));
    if let Some(cpu) = resources.cpu() {
        add("CPU", "cpu.shares", cpu.shares().map(|shares| shares.to_string()));
        add("CPU", "cpu.cfs_period_us", cpu.period().map(|period| period.to_string()));
        add("CPU", "cpu.cfs_quota_us", cpu.quota().map(|quota| quota.to_string()));
    }
    if let Some(memory) = resources.memory() {
        add("memory", "memory.limit_in_bytes", memory.limit().map(|bytes| bytes.to_string()));
        add("swap", "memory.memsw.limit_in_bytes", memory.swap().map(|bytes| bytes.to_string()));
    }
    add("processes", "pids.max", pids(resources));
    values
}

fn limit_v2(directory: &Path, resources: &LinuxResources) -> Result<(), LimitError> {
    enable_v2(directory)?;
    for (what, file, value) in v2_values(resources) {
        if !directory.join(file).exists() {
            return Err(LimitError::NoController(what));
        }
        write(directory, file, &value)?;
    }
    Ok(())
}

/// Switches the controllers on for everything above `directory`, from the top down, as far as the host has them.
pub(super) fn enable_v2(directory: &Path) -> Result<(), LimitError> {
    let mut above: Vec<&Path> =
        directory.ancestors().skip(1).take_while(|path| path.starts_with(MOUNTS)).collect();
    above.reverse();
    for parent in above {
        let available = fs::read_to_string(parent.join("cgroup.controllers")).unwrap_or_default();
        let enabled = fs::read_to_string(parent.join("cgroup.subtree_control")).unwrap_or_default();
        for controller in V2_CONTROLLERS {
            let is_in = |list: &str| list.split_whitespace().any(|name| name == controller);
            if is_in(&available) && !is_in(&enabled) {
                write(parent, "cgroup.subtree_control", &format!("+{controller}"))?;
            }
        }
    }
    Ok(())
}

fn v2_values(resources: &LinuxResources) -> Vec<(&'static str, &'static str, String)> {
    let mut values = Vec::new();
    let mut add = |what, file, value: Option<String>| values.extend(value.map(|value| (what, file, value)));
    if let Some(cpu) = resources.cpu() {
        add("CPU", "cpu.weight", cpu.shares().map(weight));
        add("CPU", "cpu.max", cpu_max(cpu));
    }
    if let Some(memory) = resources.memory() {
        add("memory", "memory.max", memory.limit().map(bytes_or_max));
        add("swap", "memory.swap.max", swap_max(memory));
    }
    add("processes", "pids.max", pids(resources));
    values
}

/// v1's shares (2 to 262,144) on v2's scale (1 to 10,000), as the runtime spec's implementations agree on.
fn weight(shares: u64) -> String {
    let shares = shares.clamp(2, 262_144);
    (1 + (shares - 2) * 9_999 / 262_142).to_string()
}

fn cpu_max(cpu: &LinuxCpu) -> Option<String> {
    let period = cpu.period().unwrap_or(100_000);
    match cpu.quota() {
        Some(quota) if quota > 0 => Some(format!("{quota} {period}")),
        Some(_) => Some(format!("max {period}")),
        None => None,
    }
}

/// The runtime spec counts memory and swap together, v2 swap alone.
fn swap_max(memory: &LinuxMemory) -> Option<String> {
    let both = memory.swap()?;
    let alone = if both < 0 { both } else { (both - memory.limit().unwrap_or(0)).max(0) };
    Some(bytes_or_max(alone))
}

fn bytes_or_max(bytes: i64) -> String {
    if bytes < 0 { "max".to_owned() } else { bytes.to_string() }
}

fn pids(resources: &LinuxResources) -> Option<String> {
    let limit = resources.pids().as_ref()?.limit();
    Some(if limit > 0 { limit.to_string() } else { "max".to_owned() })
}

pub(super) fn write(directory: &Path, file: &str, value: &str) -> Result<(), LimitError> {
    let file = directory.join(file);
    fs::write(&file, value).map_err(|source| LimitError::Write { file, value: value.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(json: &str) -> LinuxResources {
        serde_json::from_str(json).unwrap()
    }

    fn pairs(values: Vec<(&'static str, &'static str, String)>) -> Vec<String> {
        values.into_iter().map(|(_, file, value)| format!("{file}={value}")).collect()
    }

    const ALL: &str = r#"{"cpu":{"shares":1024,"quota":50000,"period":100000},
        "memory":{"limit":67108864,"swap":100663296},"pids":{"limit":64}}"#;

    #[test]
    fn limits_are_said_in_the_words_of_each_version() {
        assert_eq!(
            pairs(v1_values(&resources(ALL))),
            [
                "cpu.shares=1024",
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=50000",
                "memory.limit_in_bytes=67108864",
                "memory.memsw.limit_in_bytes=100663296",
                "pids.max=64"
            ]
        );
        assert_eq!(
            pairs(v2_values(&resources(ALL))),
            [
                "cpu.weight=39",
                "cpu.max=50000 100000",
                "memory.max=67108864",
                "memory.swap.max=33554432",
                "pids.max=64"
            ]
        );
    }

    #[test]
    fn no_limit_is_said_too() {
        let none = r#"{"cpu":{"quota":-1},"memory":{"limit":-1,"swap":-1},"pids":{"limit":0}}"#;
        assert_eq!(
            pairs(v2_values(&resources(none))),
            ["cpu.max=max 100000", "memory.max=max", "memory.swap.max=max", "pids.max=max"]
        );
        assert!(v1_values(&resources("{}")).is_empty() && v2_values(&resources("{}")).is_empty());
    }

    #[test]
    fn unknown_limits_are_refused() {
        for json in [
            r#"{"cpu":{"cpus":"0"}}"#,
            r#"{"hugepageLimits":[{"pageSize":"2MB","limit":1}]}"#,
            r#"{"unified":{"io.max":"8:0 rbps=1"}}"#,
            r#"{"memory":{"swappiness":1}}"#,
        ] {
            assert!(matches!(check_supported(&resources(json)), Err(LimitError::Unsupported(_))), "{json}");
        }
        assert!(check_supported(&resources(ALL)).is_ok());
    }
}
