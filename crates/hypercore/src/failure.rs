//! Why a command failed, ready to be told: one line, a hint, a class, and the exit code that follows from them.

use std::io;

use hypercore_api::{ApiError, ErrorKind, client::ConnectError};

use crate::{config::ConfigError, exit::Exit};

/// What a command ends with.
pub(crate) type Outcome = Result<Exit, Failure>;

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What is told.
    pub(crate) error: ApiError,
    /// What the program ends with.
    pub(crate) exit: Exit,
    /// Whoever read our output has gone: there is nobody left to tell.
    pub(crate) is_silent: bool,
}

impl Failure {
    /// A failure found here rather than by the agent.
    pub(crate) fn new(kind: ErrorKind, code: &str, message: impl Into<String>) -> Self {
        ApiError::new(kind, code, message).into()
    }

    /// The same failure with what to do about it.
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.error = self.error.with_hint(hint);
        self
    }

    /// The same failure as `run` (attached), `exec` and `wait` end with it.
    pub(crate) fn in_session(mut self) -> Self {
        if !self.is_silent {
            self.exit = Exit::of_session(self.error.kind, &self.error.code);
        }
        self
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self { exit: Exit::of_kind(error.kind), error, is_silent: false }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        ApiError::from(error).into()
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let hint = match &error {
            ConfigError::Unreadable { .. } => "give a readable file with --config FILE",
            ConfigError::Mistakes(_) => "`hypercore config show` prints every key with its value",
        };
        let code = match &error {
            ConfigError::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "config_not_found"
            }
            ConfigError::Unreadable { .. } => "config_unreadable",
            ConfigError::Mistakes(_) => "config_invalid",
        };
        Self::new(ErrorKind::Usage, code, error.to_string()).with_hint(hint)
    }
}

impl From<io::Error> for Failure {
    /// An error of our own input and output: the terminal, the pipe.
    fn from(error: io::Error) -> Self {
        let is_silent = error.kind() == io::ErrorKind::BrokenPipe;
        let failure = Self::new(ErrorKind::Failed, "io_failed", format!("input or output failed: {error}"));
        // `hypercore logs web | head` ends well, as other tools do.
        if is_silent { Self { exit: Exit::Ok, is_silent, ..failure } } else { failure }
    }
}
