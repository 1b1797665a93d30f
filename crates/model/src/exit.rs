//! How a workload's first process, or an execution inside it, ended.

use serde::{Deserialize, Serialize};

use crate::timestamp::Timestamp;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitStatus {
    /// It called exit with this code, 0 to 255.
    Code(u8),
    /// This signal ended it.
    Signal(u8),
    /// The kernel killed it because the workload reached its memory limit.
    OutOfMemory,
}

impl ExitStatus {
    /// The one number shells use: the code itself, or 128 + the signal's number (POSIX.1-2017, XCU 2.8.2).
    /// A kill for lack of memory counts as SIGKILL: 137.
    #[must_use]
    pub const fn shell_code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128u8.saturating_add(signal),
            Self::OutOfMemory => 137,
        }
    }

    /// Whether it ended well: code 0.
    #[must_use]
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Code(0))
    }
}

/// The end of a workload's first process, as its shim leaves it on disk (`exit.json`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// How it ended.
    pub exit: ExitStatus,
    /// When it had started.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// How much of its output the log neither has nor tells of, in bytes: the disk was full to the end.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost_output_bytes: u64,
}

impl ExitRecord {
    /// An end whose output is in the log.
    #[must_use]
    pub const fn new(exit: ExitStatus, started_at: Timestamp, finished_at: Timestamp) -> Self {
        Self { exit, started_at, finished_at, lost_output_bytes: 0 }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shells_see_128_plus_the_signal() {
        assert_eq!(ExitStatus::Code(3).shell_code(), 3);
        assert_eq!(ExitStatus::Signal(15).shell_code(), 143);
        assert_eq!(ExitStatus::OutOfMemory.shell_code(), 137);
        assert!(ExitStatus::Code(0).is_success() && !ExitStatus::Signal(1).is_success());
    }
}
