//! Connections on which nobody has shown a token yet, counted by address, so that no one machine can take every place.
//! It refuses to forget one: a place is given back when its [`Stranger`] is dropped.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// Most connections without a token from one address.
const PER_ADDRESS_MAX: usize = 64;

/// The count of each address that has any.
#[derive(Debug, Clone, Default)]
pub(super) struct Strangers {
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Strangers {
    /// A place for one more from this address, if it has one left.
    pub(super) fn admit(&self, address: IpAddr) -> Option<Stranger> {
        let address = block(address);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= PER_ADDRESS_MAX {
            return None;
        }
        *count += 1;
        Some(Stranger { address, counts: Arc::clone(&self.counts) })
    }
}

/// What one machine has of addresses: in IPv6 a whole /64 (RFC 6177 §2).
fn block(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
        address => address,
    }
}

/// One place, given back on drop.
#[derive(Debug)]
pub(super) struct Stranger {
    address: IpAddr,
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_places_and_no_more() {
        let strangers = Strangers::default();
        let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let mut held: Vec<Stranger> = (0..PER_ADDRESS_MAX).map(|_| strangers.admit(one).unwrap()).collect();
        assert!(strangers.admit(one).is_none());
        assert!(strangers.admit("::ffff:192.0.2.1".parse().unwrap()).is_none(), "the same address");
        assert!(strangers.admit(other).is_some());
        held.pop();
        assert!(strangers.admit(one).is_some());
        held.clear();
        assert!(strangers.counts.lock().unwrap().is_empty(), "nothing is kept of who left");
    }

    #[test]
    fn an_ipv6_network_counts_as_one() {
        let strangers = Strangers::default();
        let address = |last: usize| format!("2001:db8:0:1::{last:x}").parse().unwrap();
        let held: Vec<_> = (0..PER_ADDRESS_MAX).filter_map(|last| strangers.admit(address(last))).collect();
        assert_eq!(held.len(), PER_ADDRESS_MAX);
        assert!(strangers.admit(address(999)).is_none());
        assert!(strangers.admit("2001:db8:0:2::1".parse().unwrap()).is_some());
    }
}
