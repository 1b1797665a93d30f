//! The two values a node's network is configured with: the bridge's name and the subnet, checked when parsed.
//! It refuses IPv6: workloads have IPv4 addresses only, and the sandbox's IPv6 is switched off.

use std::{fmt, net::Ipv4Addr, str::FromStr};

/// Why a text is not a bridge name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a bridge name: 1 to 15 letters, digits, `-` or `_`, beginning with a letter")]
pub struct BridgeNameError(String);

/// The name of a node's bridge. It is written into firewall rules, which is why the alphabet is narrow: it
/// must not be able to say anything else there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BridgeName(String);

impl BridgeName {
    /// Longest name in bytes: the kernel's `IFNAMSIZ` without its NUL.
    pub const LEN_MAX: usize = 15;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BridgeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for BridgeName {
    type Err = BridgeNameError;

    fn from_str(text: &str) -> Result<Self, BridgeNameError> {
        let is_name = text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.len() <= Self::LEN_MAX
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if is_name { Ok(Self(text.to_owned())) } else { Err(BridgeNameError(text.to_owned())) }
    }
}

/// Why a text is not a usable subnet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// Not `a.b.c.d/n`.
    #[error("`{0}` is not a subnet (such as 172.16.0.0/16)")]
    Syntax(String),
    /// Too small for a gateway and a workload, or larger than any private range.
    #[error("a /{0} subnet is out of range: at least /30, at most /8")]
    Prefix(u8),
    /// Has bits set outside its prefix.
    #[error("{given} has host bits set; did you mean {network}?")]
    HostBits {
        /// What was given.
        given: String,
        /// The subnet it lies in.
        network: Ipv4Cidr,
    },
    /// A range that can't be routed to a workload.
    #[error("{0} is a loopback, link-local, multicast or reserved range, which workloads can't use")]
    Reserved(Ipv4Cidr),
}

/// An IPv4 subnet. The first address is the gateway (the bridge), the last one is the broadcast address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ipv4Cidr {
    network: Ipv4Addr,
    prefix_len: u8,
}

impl Ipv4Cidr {
    /// Length of the prefix in bits, 8 to 30.
    #[must_use]
    pub const fn prefix_len(&self) -> u8 {
        self.prefix_len
    }

    /// The bridge's own address: the first one.
    #[must_use]
    pub const fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() + 1)
    }

    /// The broadcast address: the last one.
    #[must_use]
    pub const fn broadcast(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() | !self.mask())
    }

    /// Whether the address lies in the subnet.
    #[must_use]
    pub const fn contains(&self, address: Ipv4Addr) -> bool {
        address.to_bits() & self.mask() == self.network.to_bits()
    }

    /// The first and the last address a workload can have.
    #[must_use]
    pub const fn workload_range(&self) -> (Ipv4Addr, Ipv4Addr) {
        let first = Ipv4Addr::from_bits(self.gateway().to_bits() + 1);
        (first, Ipv4Addr::from_bits(self.broadcast().to_bits() - 1))
    }

    const fn mask(&self) -> u32 {
        u32::MAX << (32 - self.prefix_len)
    }
}

impl fmt::Display for Ipv4Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix_len)
    }
}

impl FromStr for Ipv4Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let syntax = || CidrError::Syntax(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(syntax)?;
        let address: Ipv4Addr = address.parse().map_err(|_| syntax())?;
        let is_number = (1..=2).contains(&prefix.len()) && prefix.bytes().all(|b| b.is_ascii_digit());
        let prefix_len = prefix.parse().ok().filter(|_| is_number).ok_or_else(syntax)?;
        if !(8..=30).contains(&prefix_len) {
            return Err(CidrError::Prefix(prefix_len));
        }
        let mut subnet = Self { network: address, prefix_len };
        subnet.network = Ipv4Addr::from_bits(address.to_bits() & subnet.mask());
        if subnet.network != address {
            return Err(CidrError::HostBits { given: text.to_owned(), network: subnet });
        }
        let first = subnet.network;
        let is_reserved = first.octets()[0] == 0
            || first.is_loopback()
            || first.is_link_local()
            || first.octets()[0] >= 224
            || subnet.contains(Ipv4Addr::new(169, 254, 0, 0));
        if is_reserved { Err(CidrError::Reserved(subnet)) } else { Ok(subnet) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_knows_its_gateway_and_range() {
        let subnet: Ipv4Cidr = "172.16.0.0/16".parse().unwrap();
        assert_eq!(subnet.to_string(), "172.16.0.0/16");
        assert_eq!(subnet.gateway(), Ipv4Addr::new(172, 16, 0, 1));
        assert_eq!(subnet.broadcast(), Ipv4Addr::new(172, 16, 255, 255));
        let range = (Ipv4Addr::new(172, 16, 0, 2), Ipv4Addr::new(172, 16, 255, 254));
        assert_eq!(subnet.workload_range(), range);
        assert!(subnet.contains(Ipv4Addr::new(172, 16, 9, 9)));
        assert!(!subnet.contains(Ipv4Addr::new(172, 17, 0, 0)));
    }

    #[test]
    fn the_smallest_subnet_has_one_workload() {
        let subnet: Ipv4Cidr = "10.0.0.0/30".parse().unwrap();
        assert_eq!(subnet.workload_range(), (Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 2)));
    }

    #[test]
    fn what_is_no_subnet_is_refused_with_its_reason() {
        for text in ["", "10.0.0.0", "10.0.0.0/", "10.0.0.0/+8", "10.0.0/8", "10.0.0.0/016", "::/64"] {
            assert_eq!(text.parse::<Ipv4Cidr>(), Err(CidrError::Syntax(text.into())), "{text}");
        }
        assert_eq!("10.0.0.0/31".parse::<Ipv4Cidr>(), Err(CidrError::Prefix(31)));
        assert_eq!("0.0.0.0/0".parse::<Ipv4Cidr>(), Err(CidrError::Prefix(0)));
        let error = "172.16.5.0/16".parse::<Ipv4Cidr>().unwrap_err();
        assert_eq!(error.to_string(), "172.16.5.0/16 has host bits set; did you mean 172.16.0.0/16?");
        for text in ["127.0.0.0/8", "169.254.0.0/16", "169.254.8.0/24", "224.0.0.0/8", "0.0.0.0/8"] {
            assert!(matches!(text.parse::<Ipv4Cidr>(), Err(CidrError::Reserved(_))), "{text}");
        }
    }

    #[test]
    fn a_bridge_name_can_say_nothing_but_a_name() {
        assert_eq!("hypercore0".parse::<BridgeName>().unwrap().as_str(), "hypercore0");
        for text in ["", "0br", "a b", "br\"", "br;", "br/0", "sixteen-letters-"] {
            assert!(text.parse::<BridgeName>().is_err(), "{text}");
        }
    }
}
