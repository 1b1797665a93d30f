//! The exit codes, and the one table from failures to them.

use std::process::ExitCode;

use hypercore_api::ErrorKind;
use hypercore_model::ExitStatus;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: what was asked for was done.
    Ok,
    /// 1: the operation failed.
    Failed,
    /// 2: the command line or the configuration is wrong.
    Usage,
    /// 3: what was named doesn't exist.
    NotFound,
    /// 4: not allowed, by permission, policy or quota.
    Refused,
    /// 5: no agent, no registry, no quorum.
    Unavailable,
    /// 6: clashes with what is there.
    Conflict,
    /// 125: `run`, `exec` or `wait` failed before or beside the workload.
    Hypercore,
    /// 126: the workload's command can't be executed.
    NotExecutable,
    /// 127: the workload's command doesn't exist.
    CommandNotFound,
    /// The workload's own code, or 128 + the signal that ended it.
    Workload(ExitStatus),
}

impl Exit {
    /// The number the shell sees.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Refused => 4,
            Self::Unavailable => 5,
            Self::Conflict => 6,
            Self::Hypercore => 125,
            Self::NotExecutable => 126,
            Self::CommandNotFound => 127,
            Self::Workload(status) => status.shell_code(),
        }
    }

    /// How most commands end after a failure of this class.
    pub(crate) const fn of_kind(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Failed => Self::Failed,
            ErrorKind::Usage => Self::Usage,
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::Refused => Self::Refused,
            ErrorKind::Unavailable => Self::Unavailable,
            ErrorKind::Conflict => Self::Conflict,
        }
    }

    /// How `run` (attached), `exec` and `wait` end after a failure: their low codes belong to the workload, except
    /// for a command line that never made sense.
    pub(crate) fn of_session(kind: ErrorKind, code: &str) -> Self {
        match (kind, code) {
            (_, "not_executable") => Self::NotExecutable,
            (_, "command_not_found") => Self::CommandNotFound,
            (ErrorKind::Usage, _) => Self::Usage,
            _ => Self::Hypercore,
        }
    }

    /// The first of two that isn't [`Exit::Ok`]: what a command over several targets ends with.
    pub(crate) const fn and(self, later: Self) -> Self {
        match self {
            Self::Ok => later,
            earlier => earlier,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_contract() {
        let kinds = [
            ErrorKind::Failed,
            ErrorKind::Usage,
            ErrorKind::NotFound,
            ErrorKind::Refused,
            ErrorKind::Unavailable,
            ErrorKind::Conflict,
        ];
        assert_eq!(kinds.map(|kind| Exit::of_kind(kind).code()), [1, 2, 3, 4, 5, 6]);
        assert_eq!(Exit::Workload(ExitStatus::Signal(15)).code(), 143);
    }

    #[test]
    fn sessions_keep_the_low_codes_for_the_workload() {
        assert_eq!(Exit::of_session(ErrorKind::NotFound, "image_not_found").code(), 125);
        assert_eq!(Exit::of_session(ErrorKind::Failed, "not_executable").code(), 126);
        assert_eq!(Exit::of_session(ErrorKind::Failed, "command_not_found").code(), 127);
        assert_eq!(Exit::of_session(ErrorKind::Usage, "invalid_request").code(), 2);
    }
}
