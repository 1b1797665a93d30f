//! The name of a host as requests are matched by it. It refuses what no URL can have (RFC 3986 §3.2.2).

use std::{fmt, str::FromStr};

/// Longest name of the DNS, in bytes (RFC 1035 §2.3.4).
const LEN_MAX: usize = 253;

/// Why a text is not a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a host is a name of letters, digits, `-`, `_` and `.`, or an address; an optional port follows it")]
pub struct HostError;

/// A host name or address: in lower case, without port and without the dot at the end of a fully qualified name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostName(String);

impl HostName {
    /// The host of `host[:port]`, as in a `Host` header or `:authority`.
    ///
    /// # Errors
    /// [`HostError`], also when there is user information or nothing at all.
    pub fn of_authority(authority: &str) -> Result<Self, HostError> {
        let (host, port) = if authority.starts_with('[') {
            let end = authority.find(']').ok_or(HostError)?;
            let (host, rest) = authority.split_at(end + 1);
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or(HostError)?) })
        } else {
            match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            }
        };
        let is_port = |port: &str| port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
        if !port.is_none_or(is_port) {
            return Err(HostError);
        }
        host.parse()
    }

    /// The host as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before `.base`, if this host lies under it; several labels count as one text.
    #[must_use]
    pub fn below(&self, base: &Self) -> Option<&str> {
        self.0.strip_suffix(base.as_str())?.strip_suffix('.').filter(|label| !label.is_empty())
    }
}

impl FromStr for HostName {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let bare = text.strip_suffix('.').unwrap_or(text);
        let inner = bare.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let is_valid = match inner {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                bare.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
                    && !bare.starts_with('.')
                    && !bare.contains("..")
                    && !bare.ends_with('.')
            }
        };
        if bare.is_empty() || bare.len() > LEN_MAX || !is_valid {
            return Err(HostError);
        }
        Ok(Self(bare.to_ascii_lowercase()))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_port_and_last_dot_make_no_difference() {
        for text in ["web.example.org", "Web.Example.ORG:8001", "web.example.org.", "web.example.org.:80"] {
            assert_eq!(HostName::of_authority(text).unwrap().as_str(), "web.example.org", "{text}");
        }
        assert_eq!(HostName::of_authority("[::1]:80").unwrap().as_str(), "[::1]");
    }

    #[test]
    fn what_no_url_can_have_is_refused() {
        for text in [
            "",
            ".",
            ":80",
            "a b",
            "a/b",
            "user@host",
            "host:x",
            "host:123456",
            "a..b",
            ".a",
            "[::1",
            "[x]",
            "[::1]80",
            "a\u{e9}",
            "a,b",
            "host:80:80",
        ] {
            assert!(HostName::of_authority(text).is_err(), "{text}");
        }
        assert!(HostName::of_authority(&"a".repeat(254)).is_err());
    }

    #[test]
    fn what_stands_before_the_base_is_found() {
        let base: HostName = "example.org".parse().unwrap();
        let below = |text: &str| HostName::of_authority(text).unwrap().below(&base).map(str::to_owned);
        assert_eq!(below("WEB.example.org:80").as_deref(), Some("web"));
        assert_eq!(below("a.b.example.org").as_deref(), Some("a.b"));
        for text in ["example.org", "notexample.org", "example.org.evil", "127.0.0.1"] {
            assert_eq!(below(text), None, "{text}");
        }
    }
}
