//! What becomes of a workload whose process has ended by itself. It refuses to count or to wait: that is the node's.

use std::{fmt, str::FromStr};

use crate::{exit::ExitStatus, text::serde_as_text};

/// Why a text is not a restart policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a restart policy: write no, on-failure, on-failure:COUNT or always")]
pub struct RestartError(String);

/// When a workload that ended by itself is started again. One that was stopped on purpose never is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// When it failed.
    OnFailure {
        /// How often at most in a row; `None` is without end.
        retries_max: Option<u32>,
    },
    /// However it ended.
    Always,
}

impl RestartPolicy {
    /// Whether a workload that ended like this after so many restarts in a row is started again. `None` is an end that
    /// nobody saw: a reboot, or a lost shim.
    #[must_use]
    pub fn restarts(self, exit: Option<ExitStatus>, restarts_in_a_row: u32) -> bool {
        match self {
            Self::No => false,
            Self::Always => true,
            Self::OnFailure { retries_max } => {
                let has_failed = exit != Some(ExitStatus::Code(0));
                has_failed && retries_max.is_none_or(|max| restarts_in_a_row < max)
            }
        }
    }
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No => f.write_str("no"),
            Self::OnFailure { retries_max: None } => f.write_str("on-failure"),
            Self::OnFailure { retries_max: Some(max) } => write!(f, "on-failure:{max}"),
            Self::Always => f.write_str("always"),
        }
    }
}

impl FromStr for RestartPolicy {
    type Err = RestartError;

    fn from_str(text: &str) -> Result<Self, RestartError> {
        let bad = || RestartError(text.escape_default().to_string());
        match text.split_once(':') {
            None if text == "no" => Ok(Self::No),
            // docker's `unless-stopped` is what `always` means here: what was stopped on purpose stays stopped.
            None if text == "always" || text == "unless-stopped" => Ok(Self::Always),
            None if text == "on-failure" => Ok(Self::OnFailure { retries_max: None }),
            Some(("on-failure", count)) if count.bytes().all(|b| b.is_ascii_digit()) => {
                count.parse().map(|max| Self::OnFailure { retries_max: Some(max) }).map_err(|_| bad())
            }
            _ => Err(bad()),
        }
    }
}

serde_as_text!(RestartPolicy);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_reads_back_as_itself() {
        for text in ["no", "on-failure", "on-failure:3", "always"] {
            assert_eq!(text.parse::<RestartPolicy>().unwrap().to_string(), text);
        }
        for text in ["", "yes", "on-failure:", "on-failure:-1", "always:3", "on-failure:4294967296"] {
            assert!(text.parse::<RestartPolicy>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_what_failed_is_tried_again_and_only_so_often() {
        let policy: RestartPolicy = "on-failure:2".parse().unwrap();
        assert!(policy.restarts(Some(ExitStatus::Code(1)), 0));
        assert!(policy.restarts(Some(ExitStatus::Signal(9)), 1));
        assert!(policy.restarts(None, 1), "an end that nobody saw is a failure");
        assert!(!policy.restarts(Some(ExitStatus::Code(1)), 2));
        assert!(!policy.restarts(Some(ExitStatus::Code(0)), 0));
        assert!(RestartPolicy::Always.restarts(Some(ExitStatus::Code(0)), 1000));
        assert!(!RestartPolicy::No.restarts(Some(ExitStatus::Code(1)), 0));
    }
}
