//! A spec's limits in the words of the OCI runtime spec (config-linux.md, "Control groups").
//! Devices are left out: the engine brings the runtime spec's default deny list.

use hypercore_model::{CpuMillis, MemoryBytes, WorkloadSpec};
use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};

/// The CFS period, in microseconds: the kernel's default.
const CPU_PERIOD_US: u64 = 100_000;
/// CFS quota of one thousandth of a CPU, in microseconds per period. It counts CPU time, not wall time on all CPUs,
/// so half a CPU is the same quota however many CPUs the host has.
const CPU_QUOTA_US_PER_MILLI: i64 = 100;

pub(super) fn of_spec(spec: &WorkloadSpec, accounts_swap: bool) -> LinuxResources {
    let mut pids = LinuxPids::default();
    pids.set_limit(i64::from(spec.pids_max));
    let mut resources = LinuxResources::default();
    resources
        .set_pids(Some(pids))
        .set_cpu(spec.cpu.map(cpu))
        .set_memory(spec.memory.map(|limit| memory(limit, accounts_swap)));
    resources
}

fn cpu(limit: CpuMillis) -> LinuxCpu {
    let mut cpu = LinuxCpu::default();
    cpu.set_period(Some(CPU_PERIOD_US)).set_quota(Some(i64::from(limit.millis()) * CPU_QUOTA_US_PER_MILLI));
    cpu
}

fn memory(limit: MemoryBytes, accounts_swap: bool) -> LinuxMemory {
    let bytes = i64::try_from(limit.bytes()).expect("MEMORY_BYTES_MAX fits in an i64");
    let mut memory = LinuxMemory::default();
    memory.set_limit(Some(bytes));
    if accounts_swap {
        // Memory and swap together: equal to the memory limit means no swap beyond it.
        memory.set_swap(Some(bytes));
    }
    memory
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(cpu: &str, memory: &str) -> WorkloadSpec {
        let mut spec = WorkloadSpec::of_image("web:1".parse().unwrap());
        spec.cpu = Some(cpu.parse().unwrap());
        spec.memory = Some(memory.parse().unwrap());
        spec.pids_max = 64;
        spec
    }

    #[test]
    fn half_a_cpu_is_half_of_a_period() {
        for (text, quota) in [("0.5", 50_000), ("0.01", 1_000), ("2", 200_000)] {
            let resources = of_spec(&spec(text, "64MiB"), true);
            let cpu = resources.cpu().clone().unwrap();
            assert_eq!((cpu.quota(), cpu.period()), (Some(quota), Some(100_000)), "{text}");
        }
    }

    #[test]
    fn memory_leaves_no_room_for_swap_where_swap_is_accounted() {
        let memory = |swap| *of_spec(&spec("1", "64MiB"), swap).memory();
        assert_eq!(memory(true).unwrap().limit(), Some(64 << 20));
        assert_eq!(memory(true).unwrap().swap(), Some(64 << 20));
        assert_eq!(memory(false).unwrap().swap(), None);
    }

    #[test]
    fn processes_are_always_limited_and_the_rest_only_when_asked() {
        let resources = of_spec(&WorkloadSpec::of_image("web:1".parse().unwrap()), true);
        assert!(resources.pids().unwrap().limit() > 0);
        assert!(resources.cpu().is_none() && resources.memory().is_none() && resources.devices().is_none());
    }
}
