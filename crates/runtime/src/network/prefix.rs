//! The node's IPv6 prefix: workloads' IPv6 addresses are their IPv4 addresses in its last 32 bits, so that there is one
//! pool, and one address tells the other. It refuses prefixes that leave no room for that.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use sha2::{Digest as _, Sha256};

/// Why a text is not a prefix for workloads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// Not `ADDRESS/LENGTH`.
    #[error("`{0}` is not an IPv6 prefix (such as fd12:3456:789a:1::/64)")]
    Form(String),
    /// No room for IPv4 addresses behind it, or larger than any site's.
    #[error("a /{0} prefix is out of range: at least /96, at most /32")]
    Length(u8),
    /// Bits are set that the prefix doesn't cover.
    #[error("{0} has bits set beyond its length")]
    HostBits(String),
    /// A range that can't be routed to a workload.
    #[error("{0} is a loopback, link-local, multicast or IPv4-mapped range, which workloads can't use")]
    Reserved(String),
}

/// An IPv6 prefix that workloads get addresses from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadPrefix {
    address: Ipv6Addr,
    len: u8,
}

impl WorkloadPrefix {
    /// The unique local /64 that goes with `seed`, the same every time: `fd`, 40 bits of a hash as the global id, and 16
    /// more as the subnet (RFC 4193, section 3.2.2).
    #[must_use]
    pub fn derived(seed: &[u8]) -> Self {
        let digest = Sha256::new().chain_update(b"hypercore prefix").chain_update(seed).finalize();
        let mut octets = [0; 16];
        octets[0] = 0xfd;
        octets[1..8].copy_from_slice(&digest[..7]);
        Self { address: octets.into(), len: 64 }
    }

    /// Length of the prefix in bits, 32 to 96.
    #[must_use]
    pub const fn prefix_len(self) -> u8 {
        self.len
    }

    /// The IPv6 address that goes with an IPv4 address.
    #[must_use]
    pub fn address_of(self, address: Ipv4Addr) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.address.to_bits() | u128::from(address.to_bits()))
    }
}

impl fmt::Display for WorkloadPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.len)
    }
}

impl FromStr for WorkloadPrefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let bad = || PrefixError::Form(text.to_owned());
        let (address, len) = text.split_once('/').ok_or_else(bad)?;
        let address: Ipv6Addr = address.parse().map_err(|_| bad())?;
        let len: u8 = len.parse().map_err(|_| bad())?;
        if !(32..=96).contains(&len) {
            return Err(PrefixError::Length(len));
        }
        if address.to_bits() << len != 0 {
            return Err(PrefixError::HostBits(text.to_owned()));
        }
        let is_reserved = address.to_bits() == 0
            || address.is_multicast()
            || address.is_unicast_link_local()
            || address.to_ipv4_mapped().is_some();
        if is_reserved { Err(PrefixError::Reserved(text.to_owned())) } else { Ok(Self { address, len }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_address_ends_in_the_ipv4_address() {
        let prefix: WorkloadPrefix = "fd12:3456:789a:1::/64".parse().unwrap();
        let address = prefix.address_of(Ipv4Addr::new(172, 16, 0, 2));
        assert_eq!(address, "fd12:3456:789a:1::172.16.0.2".parse::<Ipv6Addr>().unwrap());
        assert_eq!(prefix.to_string(), "fd12:3456:789a:1::/64");
    }

    #[test]
    fn a_derived_prefix_is_local_and_depends_on_its_seed() {
        let prefix = WorkloadPrefix::derived(b"node one");
        assert_eq!(prefix, WorkloadPrefix::derived(b"node one"));
        assert_ne!(prefix, WorkloadPrefix::derived(b"node two"));
        assert_eq!(prefix.to_string().parse(), Ok(prefix));
        assert!(prefix.address_of(Ipv4Addr::LOCALHOST).is_unique_local());
    }

    #[test]
    fn what_can_t_serve_workloads_is_refused_with_its_reason() {
        let refused = |text: &str| text.parse::<WorkloadPrefix>().unwrap_err();
        assert!(matches!(refused("fd00::"), PrefixError::Form(_)));
        assert!(matches!(refused("10.0.0.0/8"), PrefixError::Form(_)));
        assert!(matches!(refused("fd00::/97"), PrefixError::Length(97)));
        assert!(matches!(refused("fd00::1/64"), PrefixError::HostBits(_)));
        for text in ["fe80::/64", "ff02::/64", "::/64", "::ffff:0:0/96"] {
            assert!(matches!(refused(text), PrefixError::Reserved(_)), "{text}");
        }
    }
}
