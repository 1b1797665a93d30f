//! The cgroup of a microVM: its monitor and its machine are in it as whole processes, and only their CPU time is
//! limited there. Memory and processes of the workload are the machine's own, and are limited by what it has.

use std::fs;

use super::{Cgroup, CgroupError, limits::LimitError};

/// How often a limited group gets its share, in microseconds.
const PERIOD_US: u64 = 100_000;

impl Cgroup {
    /// Moves this process, whatever threads it has, into every directory.
    pub(crate) fn enter_whole(&self) -> Result<(), CgroupError> {
        self.directories().try_for_each(|directory| {
            // Zero is whoever writes it.
            fs::write(directory.join("cgroup.procs"), "0")
                .map_err(|error| CgroupError::Enter(directory.clone(), error))
        })
    }

    /// Limits the CPU time of all its processes together, in thousandths of one CPU.
    pub(crate) fn limit_cpu(&self, cpu_millis: Option<u32>) -> Result<(), LimitError> {
        let Some(cpu_millis) = cpu_millis else { return Ok(()) };
        let quota_us = u64::from(cpu_millis) * PERIOD_US / 1000;
        if let Some(directory) = self.v1.iter().find(|directory| directory.join("cpu.cfs_quota_us").exists())
        {
            super::limits::write(directory, "cpu.cfs_period_us", &PERIOD_US.to_string())?;
            return super::limits::write(directory, "cpu.cfs_quota_us", &quota_us.to_string());
        }
        let Some(directory) = &self.v2 else { return Err(LimitError::NoController("CPU")) };
        super::limits::enable_v2(directory)?;
        super::limits::write(directory, "cpu.max", &format!("{quota_us} {PERIOD_US}"))
    }
}
