//! Settings that name something on a network, and the node's own identity. Each is checked as far as its text tells.

use std::{fmt, net::Ipv4Addr};

use hypercore_model::NodeId;
use serde::{Serialize, Serializer};

use super::setting::{Raw, Setting};

/// The most bytes Linux allows in an interface's name (`IFNAMSIZ` - 1).
const INTERFACE_NAME_LEN_MAX: usize = 15;

/// `"auto"`, or the id this node must turn out to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NodeIdentity {
    /// Whatever the data directory's key says.
    Auto,
    /// This id and no other.
    Fixed(NodeId),
}

impl Setting for NodeIdentity {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        match raw.text()? {
            "auto" => Ok(Self::Auto),
            text => text.parse().map(Self::Fixed).map_err(|error| format!("{error}, or \"auto\"")),
        }
    }
}

impl Serialize for NodeIdentity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Fixed(id) => serializer.collect_str(id),
        }
    }
}

/// An IPv4 network that workloads get their addresses from: `172.16.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cidr {
    network: Ipv4Addr,
    prefix_len: u8,
}

impl Default for Cidr {
    fn default() -> Self {
        Self { network: Ipv4Addr::new(172, 16, 0, 0), prefix_len: 16 }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix_len)
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Setting for Cidr {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        let text = raw.text()?;
        let parsed =
            text.split_once('/').and_then(|(network, len)| Some((network.parse().ok()?, len.parse().ok()?)));
        // A /29 is the smallest network a node admits: the bridge, some workloads, network and broadcast address.
        let Some((network, prefix_len @ 8..=29)) = parsed else {
            return Err(format!(
                "`{text}` is not an IPv4 network: write ADDRESS/LENGTH with a length of 8 to 29"
            ));
        };
        let mask = u32::MAX << (32 - u32::from(prefix_len));
        let first = Ipv4Addr::from_bits(Ipv4Addr::to_bits(network) & mask);
        if first == network {
            Ok(Self { network, prefix_len })
        } else {
            Err(format!("`{text}` has bits beyond its length: did you mean {first}/{prefix_len}?"))
        }
    }
}

/// The name of a network bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct BridgeName(String);

impl BridgeName {
    /// The name as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for BridgeName {
    fn default() -> Self {
        Self("hypercore0".to_owned())
    }
}

impl Setting for BridgeName {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        let text = raw.text()?;
        let is_name = (1..=INTERFACE_NAME_LEN_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
            && !matches!(text, "." | "..");
        if is_name {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!(
                "`{text}` is not a bridge's name: 1 to {INTERFACE_NAME_LEN_MAX} letters, digits, `-`, `_` and `.`"
            ))
        }
    }
}

/// Something with a scheme. Which schemes make sense is the question of whoever connects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Url(String);

impl Setting for Url {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        let text = raw.text()?;
        let has_scheme = text.split_once("://").is_some_and(|(scheme, rest)| {
            !rest.is_empty()
                && !scheme.is_empty()
                && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+')
        });
        if has_scheme {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("`{text}` is not a URL (SCHEME://HOST...)"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_written_with_their_first_address() {
        assert_eq!(Cidr::read(Raw::Env("10.1.0.0/16")).unwrap().to_string(), "10.1.0.0/16");
        assert!(Cidr::read(Raw::Env("10.1.2.3/16")).unwrap_err().contains("did you mean 10.1.0.0/16?"));
        for text in ["", "10.0.0.0", "10.0.0.0/30", "10.0.0.0/0", "::/64", "a/16"] {
            assert!(Cidr::read(Raw::Env(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn bridges_have_names_linux_takes() {
        assert!(BridgeName::read(Raw::Env("hypercore0")).is_ok());
        for text in ["", "sixteen-letters-", "a/b", "..", "a b"] {
            assert!(BridgeName::read(Raw::Env(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn urls_need_a_scheme_and_a_rest() {
        assert!(Url::read(Raw::Env("postgres://db/hypercore")).is_ok());
        for text in ["db:5432", "://x", "http://", "a b://c"] {
            assert!(Url::read(Raw::Env(text)).is_err(), "{text}");
        }
    }
}
