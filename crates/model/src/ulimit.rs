//! Resource limits of single processes (setrlimit(2)), in docker's form: `nofile=1024:2048`.

use std::{fmt, str::FromStr};

use crate::text::serde_as_text;

/// Why a text is not a resource limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UlimitError {
    /// Not of the form that `--ulimit` takes.
    #[error("`{0}` is not a resource limit: write NAME=SOFT or NAME=SOFT:HARD, with numbers or `unlimited`")]
    Form(String),
    /// Not the name of a resource.
    #[error("`{0}` is not a resource: choose one of {list}", list = RESOURCES.join(", "))]
    Resource(String),
    /// The soft limit is above the hard one.
    #[error("the resource limit `{0}` is softer than its hard limit allows: SOFT must not be above HARD")]
    Order(String),
}

/// The resources of Linux (getrlimit(2)), in lower case and without `RLIMIT_`.
pub const RESOURCES: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// One resource limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ulimit {
    resource: &'static str,
    soft: u64,
    hard: u64,
}

impl Ulimit {
    /// The resource: one of [`RESOURCES`].
    #[must_use]
    pub const fn resource(&self) -> &'static str {
        self.resource
    }

    /// What the kernel enforces, in the resource's own unit; `u64::MAX` is no limit.
    #[must_use]
    pub const fn soft(&self) -> u64 {
        self.soft
    }

    /// How far a process may raise the soft limit by itself; `u64::MAX` is no limit.
    #[must_use]
    pub const fn hard(&self) -> u64 {
        self.hard
    }
}

impl fmt::Display for Ulimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |limit: u64| if limit == u64::MAX { "unlimited".to_owned() } else { limit.to_string() };
        write!(f, "{}={}:{}", self.resource, shown(self.soft), shown(self.hard))
    }
}

impl FromStr for Ulimit {
    type Err = UlimitError;

    fn from_str(text: &str) -> Result<Self, UlimitError> {
        let bad = || UlimitError::Form(text.escape_default().to_string());
        let (name, limits) = text.split_once('=').ok_or_else(bad)?;
        let limit = |text: &str| match text {
            "unlimited" | "-1" => Ok(u64::MAX),
            _ if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().map_err(|_| bad()),
            _ => Err(bad()),
        };
        let (soft, hard) = match limits.split_once(':') {
            Some((soft, hard)) => (limit(soft)?, limit(hard)?),
            None => (limit(limits)?, limit(limits)?),
        };
        let known = RESOURCES.into_iter().find(|known| *known == name);
        let resource = known.ok_or_else(|| UlimitError::Resource(name.escape_default().to_string()))?;
        if soft > hard {
            return Err(UlimitError::Order(text.to_owned()));
        }
        Ok(Self { resource, soft, hard })
    }
}

serde_as_text!(Ulimit);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_read_back_as_themselves() {
        for (text, shown) in [
            ("nofile=1024:2048", "nofile=1024:2048"),
            ("nproc=10", "nproc=10:10"),
            ("core=0:-1", "core=0:unlimited"),
        ] {
            let limit: Ulimit = text.parse().unwrap();
            assert_eq!(limit.to_string(), shown);
            assert_eq!(shown.parse(), Ok(limit));
        }
    }

    #[test]
    fn anything_else_is_refused_with_its_reason() {
        for text in ["", "nofile", "nofile=", "nofile=a", "nofile=1:", "nofile=1:2:3"] {
            assert!(matches!(text.parse::<Ulimit>(), Err(UlimitError::Form(_))), "{text}");
        }
        assert!(matches!("files=1".parse::<Ulimit>(), Err(UlimitError::Resource(_))));
        assert!(matches!("nofile=2:1".parse::<Ulimit>(), Err(UlimitError::Order(_))));
    }
}
