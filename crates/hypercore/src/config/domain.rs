//! The domain below which workloads have their host names. It refuses URLs and ports: those belong to the listeners.

use hypercore_agent::HostName;
use serde::{Serialize, Serializer};

use super::setting::{Raw, Setting};

/// A domain name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Domain(HostName);

impl Domain {
    /// What browsers and resolvers lead to this machine, with whatever stands before it (RFC 6761 §6.3).
    pub(crate) fn localhost() -> Self {
        Self("localhost".parse().expect("letters"))
    }

    pub(crate) fn into_name(self) -> HostName {
        self.0
    }
}

impl Setting for Domain {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        let text = raw.text()?;
        let bad = || {
            format!(
                "`{text}` is not a domain: write a name such as apps.example.org, without scheme and port"
            )
        };
        let name: HostName = text.parse().map_err(|_| bad())?;
        let is_name =
            name.as_str().bytes().any(|byte| byte.is_ascii_alphabetic()) && !name.as_str().starts_with('[');
        if is_name { Ok(Self(name)) } else { Err(bad()) }
    }
}

impl Serialize for Domain {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_a_name_and_nothing_around_it() {
        assert_eq!(
            Domain::read(Raw::Env("Apps.Example.org.")).unwrap().into_name().as_str(),
            "apps.example.org"
        );
        for text in ["", "http://a.org", "a.org:80", "a b", "127.0.0.1", "[::1]", "a/b"] {
            assert!(Domain::read(Raw::Env(text)).is_err(), "{text}");
        }
    }
}
