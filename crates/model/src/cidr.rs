//! IPv4 subnets, written `172.16.0.0/16`: what a node owns and gives its workloads addresses from.
//! It refuses addresses with bits beyond the prefix, so that every subnet has one spelling.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use crate::text::serde_as_text;

/// Why a text is not a subnet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// Not `A.B.C.D/LENGTH`.
    #[error("`{0}` is not an IPv4 subnet (such as 172.16.0.0/16)")]
    Form(String),
    /// The address has bits set that the prefix doesn't cover.
    #[error("{address}/{prefix_len} is not a subnet's own address; did you mean {meant}/{prefix_len}?")]
    HostBits {
        /// The address as given.
        address: Ipv4Addr,
        /// The prefix length as given.
        prefix_len: u8,
        /// The address with the bits beyond the prefix cleared.
        meant: Ipv4Addr,
    },
}

/// An IPv4 subnet: an address whose bits beyond the prefix are zero, and the prefix's length (0 to 32).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ipv4Cidr {
    address: Ipv4Addr,
    prefix_len: u8,
}

impl Ipv4Cidr {
    /// Checks an address and a prefix length.
    ///
    /// # Errors
    /// [`CidrError`] when the length is above 32 or the address has bits beyond the prefix.
    pub fn new(address: Ipv4Addr, prefix_len: u8) -> Result<Self, CidrError> {
        if prefix_len > 32 {
            return Err(CidrError::Form(format!("{address}/{prefix_len}")));
        }
        let meant = Ipv4Addr::from_bits(address.to_bits() & mask(prefix_len));
        if meant != address {
            return Err(CidrError::HostBits { address, prefix_len, meant });
        }
        Ok(Self { address, prefix_len })
    }

    /// The subnet's own address, its lowest.
    #[must_use]
    pub const fn address(self) -> Ipv4Addr {
        self.address
    }

    /// How many leading bits all its addresses share, 0 to 32.
    #[must_use]
    pub const fn prefix_len(self) -> u8 {
        self.prefix_len
    }

    /// Its highest address: the broadcast address.
    #[must_use]
    pub fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() | !mask(self.prefix_len))
    }

    /// Whether `address` lies in it.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & mask(self.prefix_len) == self.address.to_bits()
    }

    /// Whether any address lies in both.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }
}

/// The prefix's ones. A shift by 32 would overflow, so the empty prefix is told apart.
const fn mask(prefix_len: u8) -> u32 {
    if prefix_len == 0 { 0 } else { u32::MAX << (32 - prefix_len as u32) }
}

impl fmt::Display for Ipv4Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

impl FromStr for Ipv4Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let bad = || CidrError::Form(text.to_owned());
        let (address, prefix_len) = text.split_once('/').ok_or_else(bad)?;
        let is_number = prefix_len.bytes().all(|b| b.is_ascii_digit());
        let prefix_len = prefix_len.parse().ok().filter(|_| is_number).ok_or_else(bad)?;
        Self::new(address.parse().map_err(|_| bad())?, prefix_len)
    }
}

serde_as_text!(Ipv4Cidr);

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Ipv4Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn a_subnet_survives_its_text_form() {
        for text in ["0.0.0.0/0", "172.16.0.0/16", "10.1.2.3/32"] {
            assert_eq!(cidr(text).to_string(), text);
        }
        assert_eq!(cidr("10.0.4.0/22").broadcast(), Ipv4Addr::new(10, 0, 7, 255));
    }

    #[test]
    fn anything_else_is_refused_and_host_bits_with_the_fix() {
        for text in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0/8", "10.0.0.0/-1", "10.0.0.0/+8", "::/0", "/"] {
            assert!(matches!(text.parse::<Ipv4Cidr>(), Err(CidrError::Form(_))), "{text}");
        }
        let error = "10.1.2.3/8".parse::<Ipv4Cidr>().unwrap_err();
        assert_eq!(error.to_string(), "10.1.2.3/8 is not a subnet's own address; did you mean 10.0.0.0/8?");
    }

    #[test]
    fn subnets_overlap_when_one_holds_the_other() {
        assert!(cidr("10.0.0.0/8").overlaps(cidr("10.9.0.0/16")));
        assert!(cidr("10.9.0.0/16").overlaps(cidr("0.0.0.0/0")));
        assert!(!cidr("10.0.0.0/9").overlaps(cidr("10.128.0.0/9")));
    }
}
