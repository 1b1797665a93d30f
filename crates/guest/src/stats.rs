//! What the machine uses, as its own kernel counts it. A file that can't be read counts as zero: statistics must not
//! end a machine.

use std::fs;

use hypercore_wire::message::Stats;
use nix::sys::statvfs::statvfs;

use crate::{cgroup, root};

/// Everything at once.
pub(crate) fn read() -> Stats {
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let (disk_total_bytes, disk_used_bytes) = disk();
    Stats {
        memory_total_bytes: kib(&memory, "MemTotal:") * 1024,
        memory_available_bytes: kib(&memory, "MemAvailable:") * 1024,
        cpu_usage_us: cpu_usage_us(&fs::read_to_string("/proc/stat").unwrap_or_default()),
        pids: cgroup::pids()
            .unwrap_or_else(|| pids(&fs::read_to_string("/proc/loadavg").unwrap_or_default())),
        disk_used_bytes,
        disk_total_bytes,
    }
}

/// How many processes the kernel has killed for lack of memory since it booted.
pub(crate) fn oom_kills() -> u64 {
    let counters = fs::read_to_string("/proc/vmstat").unwrap_or_default();
    let count = counters.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

fn kib(memory: &str, key: &str) -> u64 {
    let line = memory.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// The sum of what was not idle or stolen (proc(5), `/proc/stat`), which counts in hundredths of a second.
fn cpu_usage_us(stat: &str) -> u64 {
    const IDLE: usize = 3;
    const IO_WAIT: usize = 4;
    const STEAL: usize = 7;
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or("");
    let ticks = line.split_whitespace().map(|field| field.parse::<u64>().unwrap_or(0)).enumerate();
    ticks
        .filter(|(at, _)| *at < STEAL && ![IDLE, IO_WAIT].contains(at))
        .map(|(_, ticks)| ticks * 10_000)
        .sum()
}

/// Of everything, the kernel's own threads too.
fn pids(load: &str) -> u32 {
    let field = load.split_whitespace().nth(3).and_then(|field| field.split_once('/'));
    field.and_then(|(_, count)| count.parse().ok()).unwrap_or(0)
}

fn disk() -> (u64, u64) {
    let Ok(disk) = statvfs(root::WRITABLE) else { return (0, 0) };
    let total = disk.blocks() * disk.fragment_size();
    (total, total - disk.blocks_free() * disk.fragment_size())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_read() {
        assert_eq!(kib("MemTotal:  1024 kB\nMemAvailable:    512 kB\n", "MemAvailable:"), 512);
        assert_eq!(cpu_usage_us("cpu  1 2 3 400 500 6 7 800 9 10\ncpu0 1\n"), 190_000);
        assert_eq!(pids("0.00 0.01 0.05 1/87 1234\n"), 87);
        assert_eq!((kib("", "MemTotal:"), cpu_usage_us(""), pids("")), (0, 0, 0));
    }
}
