//! What the kernel's file systems say about processes and memory (proc(5)), and the cgroups that engines forget.
//!
//! It refuses to guess: a process that is gone is an error, not a zero.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

/// The ids of processes whose command line has all of `needles`.
///
/// # Errors
/// When /proc can't be read.
pub(super) fn processes(needles: &[&str]) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").context("reading /proc")? {
        let entry = entry.context("reading /proc")?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // Processes may end while we look at them; those aren't ours to find.
        let Ok(raw) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&raw).replace('\0', " ");
        if needles.iter().all(|needle| line.contains(needle)) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// The proportional set size of a process: its memory, shared pages divided among their users.
///
/// # Errors
/// When the process is gone.
pub(super) fn pss_mib(pid: u32) -> Result<f64> {
    field_mib(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

/// The resident set size of a process.
///
/// # Errors
/// When the process is gone.
pub(super) fn rss_mib(pid: u32) -> Result<f64> {
    field_mib(&format!("/proc/{pid}/status"), "VmRSS:")
}

/// What the kernel thinks could be given to new programs.
///
/// # Errors
/// When /proc/meminfo can't be read.
pub(super) fn available_mib() -> Result<f64> {
    field_mib("/proc/meminfo", "MemAvailable:")
}

/// CPU time, user and system, that a process has used.
///
/// # Errors
/// When the process is gone.
pub(super) fn cpu_time(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    cpu_ticks(&text).map(|ticks| Duration::from_millis(ticks * 10)).with_context(|| format!("reading {path}"))
}

/// Removes the cgroup `name` from the top of every hierarchy. Engines remove a container's own cgroup and leave the
/// one above it.
pub(super) fn remove_empty_cgroups(name: &str) {
    let Ok(hierarchies) = std::fs::read_dir("/sys/fs/cgroup") else { return };
    for hierarchy in hierarchies.flatten() {
        // Fails where it doesn't exist, and where something is left in it that isn't ours to remove.
        let _ = std::fs::remove_dir(hierarchy.path().join(name));
    }
    let _ = std::fs::remove_dir(Path::new("/sys/fs/cgroup").join(name));
}

/// Fields 14 and 15, counted after the program's name, which may hold spaces. USER_HZ is 100 on Linux.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

fn field_mib(path: &str, name: &str) -> Result<f64> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    let kib =
        text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kib.with_context(|| format!("{path} has no {name}"))? / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_this_process() {
        let pid = std::process::id();
        assert!(pss_mib(pid).unwrap() > 0.1 && rss_mib(pid).unwrap() > 0.1);
        assert!(available_mib().unwrap() > 1.0);
        assert!(cpu_time(pid).is_ok() && cpu_time(u32::MAX).is_err());
    }

    #[test]
    fn a_name_with_spaces_and_brackets_does_not_shift_the_fields() {
        let stat = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 30 12 0 0 20 0 1";
        assert_eq!(cpu_ticks(stat), Some(42));
    }
}
