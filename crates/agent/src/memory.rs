//! Whether machines still fit into the host's memory. A machine that goes on from a snapshot takes little of it at first
//! and may take all of it a moment later: it is counted whole. It refuses to reserve anything: that is the state's.

use std::{fs, io};

use hypercore_model::{WorkloadSpec, units::format_size};
use hypercore_runtime::machine::bundle;
use tonic::Code;

use crate::server::Problem;

/// Where the kernel says how much memory there is: proc(5).
const MEMINFO: &str = "/proc/meminfo";

/// Refuses `count` machines of this spec when the host has less memory to give than they may use.
pub(crate) fn require(spec: &WorkloadSpec, count: u32) -> Result<(), Problem> {
    let free = fs::read_to_string(MEMINFO)
        .and_then(|meminfo| available(&meminfo).ok_or_else(|| io::Error::other("it has no MemAvailable")));
    match free {
        Ok(free) => check(u64::from(bundle::memory_mib(spec)) << 20, count, free),
        Err(error) => {
            tracing::warn!(%error, "{MEMINFO} can't be read; memory is not counted");
            Ok(())
        }
    }
}

fn check(each: u64, count: u32, free: u64) -> Result<(), Problem> {
    let wanted = each.saturating_mul(count.into());
    if wanted <= free {
        return Ok(());
    }
    let machines = if count == 1 { "a machine".to_owned() } else { format!("{count} machines") };
    let message = format!(
        "{machines} of {} may use {} of memory, and {} are free",
        format_size(each),
        format_size(wanted),
        format_size(free)
    );
    Err(Problem::new(Code::ResourceExhausted, "no_memory", message)
        .hint("make fewer, or end what else runs: `hypercore stats` shows what uses memory"))
}

/// The `MemAvailable` of `/proc/meminfo`, in bytes.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_clones_are_counted_before_the_first() {
        let mib = 1 << 20;
        assert!(check(512 * mib, 4, 2048 * mib).is_ok());
        let refused = check(512 * mib, 5, 2048 * mib).unwrap_err().to_string();
        assert!(refused.contains("5 machines of 512MiB") && refused.contains("2GiB are free"), "{refused}");
        assert!(check(u64::MAX, u32::MAX, u64::MAX - 1).is_err());
    }

    #[test]
    fn the_kernels_word_is_read() {
        assert_eq!(available("MemTotal: 9 kB\nMemAvailable:    2048 kB\n"), Some(2 << 20));
        for broken in ["", "MemTotal: 1 kB", "MemAvailable: x kB", "MemAvailable: 18446744073709551615 kB"] {
            assert_eq!(available(broken), None, "{broken}");
        }
    }
}
