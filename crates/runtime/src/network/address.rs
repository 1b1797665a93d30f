//! The two values a node's network is configured with: the bridge's name and the subnet, checked when parsed.
//! It refuses IPv6: workloads have IPv4 addresses only, and the sandbox's IPv6 is switched off.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use hypercore_model::{Ipv4Cidr, cidr::CidrError};

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

/// Why a subnet can't serve workloads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubnetError {
    /// Not a subnet at all.
    #[error(transparent)]
    Text(#[from] CidrError),
    /// Too small for a gateway and a workload, or larger than any private range.
    #[error("a /{0} subnet is out of range: at least /30, at most /8")]
    Prefix(u8),
    /// A range that can't be routed to a workload.
    #[error("{0} is a loopback, link-local, multicast or reserved range, which workloads can't use")]
    Reserved(Ipv4Cidr),
}

/// A subnet that workloads get addresses from. The first address is the gateway (the bridge), the last one is the
/// broadcast address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadSubnet(Ipv4Cidr);

impl WorkloadSubnet {
    /// Length of the prefix in bits, 8 to 30.
    #[must_use]
    pub const fn prefix_len(self) -> u8 {
        self.0.prefix_len()
    }

    /// The bridge's own address: the first one.
    #[must_use]
    pub const fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.0.address().to_bits() + 1)
    }

    /// The broadcast address: the last one.
    #[must_use]
    pub fn broadcast(self) -> Ipv4Addr {
        self.0.broadcast()
    }

    /// Whether the address lies in the subnet.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        self.0.contains(address)
    }

    /// The first and the last address a workload can have.
    #[must_use]
    pub fn workload_range(self) -> (Ipv4Addr, Ipv4Addr) {
        let first = Ipv4Addr::from_bits(self.gateway().to_bits() + 1);
        (first, Ipv4Addr::from_bits(self.broadcast().to_bits() - 1))
    }
}

impl TryFrom<Ipv4Cidr> for WorkloadSubnet {
    type Error = SubnetError;

    fn try_from(subnet: Ipv4Cidr) -> Result<Self, SubnetError> {
        if !(8..=30).contains(&subnet.prefix_len()) {
            return Err(SubnetError::Prefix(subnet.prefix_len()));
        }
        let first = subnet.address();
        let is_reserved = first.octets()[0] == 0
            || first.is_loopback()
            || first.is_link_local()
            || first.octets()[0] >= 224
            || subnet.contains(Ipv4Addr::new(169, 254, 0, 0));
        if is_reserved { Err(SubnetError::Reserved(subnet)) } else { Ok(Self(subnet)) }
    }
}

impl fmt::Display for WorkloadSubnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for WorkloadSubnet {
    type Err = SubnetError;

    fn from_str(text: &str) -> Result<Self, SubnetError> {
        text.parse::<Ipv4Cidr>()?.try_into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_knows_its_gateway_and_range() {
        let subnet: WorkloadSubnet = "172.16.0.0/16".parse().unwrap();
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
        let subnet: WorkloadSubnet = "10.0.0.0/30".parse().unwrap();
        assert_eq!(subnet.workload_range(), (Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 2)));
    }

    #[test]
    fn what_can_t_serve_workloads_is_refused_with_its_reason() {
        assert_eq!("10.0.0.0/31".parse::<WorkloadSubnet>(), Err(SubnetError::Prefix(31)));
        assert_eq!("0.0.0.0/0".parse::<WorkloadSubnet>(), Err(SubnetError::Prefix(0)));
        assert!(matches!("172.16.5.0/16".parse::<WorkloadSubnet>(), Err(SubnetError::Text(_))));
        for text in ["127.0.0.0/8", "169.254.0.0/16", "169.254.8.0/24", "224.0.0.0/8", "0.0.0.0/8"] {
            assert!(matches!(text.parse::<WorkloadSubnet>(), Err(SubnetError::Reserved(_))), "{text}");
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
