//! Why a workload could not be run: a stable code for programs, a sentence for people, a hint for what to do.
//! It is kept on disk as `outcome.json`, so that the reason survives the agent.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What went wrong with a workload, as the API and `outcome.json` tell it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// Stable and machine-readable, such as `image_not_found`.
    pub(crate) code: String,
    /// What failed, in one line.
    pub(crate) message: String,
    /// What to do about it; may be empty.
    #[serde(default)]
    pub(crate) hint: String,
}

impl Failure {
    /// A failure of `code`, told by an error and everything beneath it.
    pub(crate) fn of(code: &str, error: &dyn std::error::Error, hint: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: chain(error), hint: hint.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// An error and its sources in one line. A source that its parent already quotes is not said twice.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("reading the image failed")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_chain_names_every_cause_once() {
        let error = Outer(std::io::Error::other("disk on fire"));
        assert_eq!(chain(&error), "reading the image failed: disk on fire");
        assert_eq!(chain(&std::io::Error::other("alone")), "alone");
    }
}
