//! Settings that name something on a network, and the node's own identity. Each is checked as far as its text tells.

use std::{fmt, net::Ipv4Addr};

use hypercore_model::{Ipv4Cidr, NodeId, cidr::CidrError};
use hypercore_runtime::network::{BridgeName, BridgeNameError, WorkloadPrefix, WorkloadSubnet};
use serde::{Serialize, Serializer};

use super::setting::{Raw, Setting};

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

/// The longest prefix of a subnet that a node can be admitted with: smaller ones have no room for workloads.
const PREFIX_LEN_MAX: u8 = 29;

/// The IPv4 subnet that workloads get their addresses from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Cidr(Ipv4Cidr);

impl Default for Cidr {
    fn default() -> Self {
        Self(Ipv4Cidr::new(Ipv4Addr::new(172, 16, 0, 0), 16).expect("172.16.0.0 has no bits beyond 16"))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Setting for Cidr {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        let cidr: Ipv4Cidr = raw.text()?.parse().map_err(|error: CidrError| error.to_string())?;
        WorkloadSubnet::try_from(cidr).map_err(|error| error.to_string())?;
        if cidr.prefix_len() > PREFIX_LEN_MAX {
            return Err(format!(
                "{cidr} has no room for workloads: the prefix may be at most /{PREFIX_LEN_MAX}"
            ));
        }
        Ok(Self(cidr))
    }
}

/// `"auto"`, `"off"`, or the IPv6 prefix that workloads get their addresses from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Cidr6(String);

impl Default for Cidr6 {
    fn default() -> Self {
        Self("auto".to_owned())
    }
}

impl fmt::Display for Cidr6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Setting for Cidr6 {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        let text = raw.text()?;
        if !matches!(text, "auto" | "off") {
            text.parse::<WorkloadPrefix>().map_err(|error| format!("{error}, or \"auto\", or \"off\""))?;
        }
        Ok(Self(text.to_owned()))
    }
}

/// The name of the bridge that joins workloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bridge(BridgeName);

impl Bridge {
    /// The name as text.
    pub(crate) fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl Default for Bridge {
    fn default() -> Self {
        Self("hypercore0".parse().expect("a letter, then letters and a digit"))
    }
}

impl Setting for Bridge {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        raw.text()?.parse().map(Self).map_err(|error: BridgeNameError| error.to_string())
    }
}

impl Serialize for Bridge {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Something with a scheme. Which schemes make sense is the question of whoever connects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Url(String);

impl Url {
    /// As it was written.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Url {
    /// The directory of the authority that most of the world's certificates come from.
    pub(crate) fn lets_encrypt() -> Self {
        Self("https://acme-v02.api.letsencrypt.org/directory".to_owned())
    }
}

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
    fn subnets_are_written_with_their_first_address() {
        assert_eq!(Cidr::read(Raw::Env("10.1.0.0/16")).unwrap().to_string(), "10.1.0.0/16");
        assert!(Cidr::read(Raw::Env("10.1.2.3/16")).unwrap_err().contains("did you mean 10.1.0.0/16?"));
        for text in ["", "10.0.0.0", "10.0.0.0/30", "10.0.0.0/7", "127.0.0.0/16", "::/64", "a/16"] {
            assert!(Cidr::read(Raw::Env(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn an_ipv6_prefix_is_the_nodes_own_none_or_a_given_one() {
        for text in ["auto", "off", "fd12:3456:789a:1::/64"] {
            assert_eq!(Cidr6::read(Raw::Env(text)).unwrap().to_string(), text);
        }
        assert!(Cidr6::read(Raw::Env("10.0.0.0/16")).unwrap_err().ends_with("or \"auto\", or \"off\""));
    }

    #[test]
    fn bridges_have_names_linux_takes() {
        assert!(Bridge::read(Raw::Env("hypercore0")).is_ok());
        for text in ["", "sixteen-letters-", "a/b", "..", "a b"] {
            assert!(Bridge::read(Raw::Env(text)).is_err(), "{text}");
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
