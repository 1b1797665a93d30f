//! Names that people give to workloads and snapshots: one DNS label, because a name becomes `<name>.<base-url>`, or a
//! directory.

use crate::{limits::NAME_LEN_MAX, text::label};

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("a name must not be empty")]
    Empty,
    /// The text is longer than a DNS label may be.
    #[error("the name is {0} bytes long; at most {NAME_LEN_MAX} are allowed")]
    TooLong(usize),
    /// The text has a character no host name may have.
    #[error(
        "`{0}` is not a name: use lower-case letters, digits and `-`, beginning and ending with a letter or digit"
    )]
    Characters(String),
}

label! {
    /// A workload's name: 1 to 63 of `a-z 0-9 -`, not beginning or ending with `-` (RFC 1123 §2.1).
    WorkloadName
}

label! {
    /// A snapshot's name: a label too, because a directory is named after it.
    SnapshotName
}

/// Checks that a text is one DNS label (RFC 1123 §2.1).
pub(crate) fn check_label(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > NAME_LEN_MAX {
        return Err(NameError::TooLong(text.len()));
    }
    let is_label = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !is_label || text.starts_with('-') || text.ends_with('-') {
        return Err(NameError::Characters(text.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dns_labels_are_names() {
        for text in ["web", "a", "web-1", "0x"] {
            assert_eq!(text.parse::<WorkloadName>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn everything_else_is_refused_with_its_reason() {
        assert_eq!("".parse::<WorkloadName>(), Err(NameError::Empty));
        assert_eq!("x".repeat(64).parse::<WorkloadName>(), Err(NameError::TooLong(64)));
        for text in ["Web", "-web", "web-", "a.b", "a/b", "../x", "a b", "ü"] {
            assert_eq!(text.parse::<WorkloadName>(), Err(NameError::Characters(text.into())), "{text}");
        }
    }
}
