//! What the engine helper tells the shim: one JSON line on the report descriptor, then the helper ends.
//! It refuses to carry anything a person should decide on by reading text: the code says what kind of failure it was.

use serde::{Deserialize, Serialize};

/// The outcome of `hypercore-engine create` or `exec`: `{"pid":123}` or `{"error":{"code":"...","message":"..."}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// The process runs; its id in the shim's pid namespace. Its parent is the shim, if that is a subreaper.
    Pid(i32),
    /// Nothing runs, and what had been made for it is gone again.
    Error(Failure),
}

/// Why nothing runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What kind of failure it is, for programs.
    pub code: FailureCode,
    /// One sentence for people.
    pub message: String,
}

/// The kinds of failure that callers treat differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// The program is neither a path that exists nor found in `PATH`, inside the rootfs.
    CommandNotFound,
    /// The program exists but the user may not execute it, or it is not a program.
    NotExecutable,
    /// The user or group of an exec is unknown inside the rootfs.
    NoSuchUser,
    /// The workload is paused: a process that joined it would hang.
    Frozen,
    /// There is no such workload, or its first process has ended.
    NotRunning,
    /// Anything else: the engine or the kernel failed.
    Engine,
}

impl FailureCode {
    /// The exit code that shells give to this failure (POSIX.1-2017, XCU 2.8.2); 125 where docker uses it too:
    /// not the program failed, but what should have started it.
    #[must_use]
    pub const fn shell_code(self) -> u8 {
        match self {
            Self::CommandNotFound => 127,
            Self::NotExecutable => 126,
            Self::NoSuchUser | Self::Frozen | Self::NotRunning | Self::Engine => 125,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_the_json_that_was_agreed() {
        let error = Failure { code: FailureCode::CommandNotFound, message: "no `x` in PATH".into() };
        for (report, json) in [
            (Report::Pid(123), r#"{"pid":123}"#),
            (Report::Error(error), r#"{"error":{"code":"command_not_found","message":"no `x` in PATH"}}"#),
        ] {
            assert_eq!(serde_json::to_string(&report).unwrap(), json);
            assert_eq!(serde_json::from_str::<Report>(json).unwrap(), report);
        }
    }

    #[test]
    fn shells_see_the_usual_codes() {
        assert_eq!(FailureCode::CommandNotFound.shell_code(), 127);
        assert_eq!(FailureCode::NotExecutable.shell_code(), 126);
        assert_eq!(FailureCode::Frozen.shell_code(), 125);
    }
}
