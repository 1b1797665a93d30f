//! The subnet's addresses: which are taken, which comes next. In memory only; a restart rebuilds it from the
//! attachments that survived. It refuses to hand out the network, gateway and broadcast addresses.

use std::{
    collections::{BTreeSet, VecDeque},
    net::Ipv4Addr,
};

use super::address::WorkloadSubnet;

/// Addresses of one subnet. The lowest free address goes first, and recently freed ones last, because clients,
/// ARP caches and conntrack may still believe that a freed address is its former owner.
#[derive(Debug)]
pub(super) struct AddressPool {
    subnet: WorkloadSubnet,
    taken: BTreeSet<Ipv4Addr>,
    /// Freed addresses, the longest free first.
    freed: VecDeque<Ipv4Addr>,
    /// The lowest address that was never handed out, as a number; everything below is in `taken` or `freed`.
    fresh: u32,
}

impl AddressPool {
    pub(super) fn new(subnet: WorkloadSubnet) -> Self {
        let fresh = subnet.workload_range().0.to_bits();
        Self { subnet, taken: BTreeSet::new(), freed: VecDeque::new(), fresh }
    }

    /// Marks an address as taken; false when it is outside the range or already taken.
    pub(super) fn restore(&mut self, address: Ipv4Addr) -> bool {
        let (first, last) = self.subnet.workload_range();
        (first..=last).contains(&address) && self.taken.insert(address)
    }

    /// The next free address, or `None` when the subnet is full.
    pub(super) fn take(&mut self) -> Option<Ipv4Addr> {
        let last = self.subnet.workload_range().1.to_bits();
        while self.fresh <= last {
            let address = Ipv4Addr::from_bits(self.fresh);
            self.fresh += 1;
            if self.taken.insert(address) {
                return Some(address);
            }
        }
        let address = self.freed.pop_front()?;
        self.taken.insert(address);
        Some(address)
    }

    /// Gives an address back. One that wasn't taken is ignored.
    pub(super) fn free(&mut self, address: Ipv4Addr) {
        // An address above `fresh` (restored, then freed) will be met again by counting up.
        if self.taken.remove(&address) && address.to_bits() < self.fresh {
            self.freed.push_back(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pool(subnet: &str) -> AddressPool {
        AddressPool::new(subnet.parse().unwrap())
    }

    fn ip(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, last)
    }

    #[test]
    fn the_lowest_address_goes_first_and_a_freed_one_last() {
        let mut pool = pool("10.0.0.0/29");
        assert_eq!([pool.take(), pool.take()], [Some(ip(2)), Some(ip(3))]);
        pool.free(ip(2));
        pool.free(ip(3));
        assert_eq!([pool.take(), pool.take(), pool.take()], [Some(ip(4)), Some(ip(5)), Some(ip(6))]);
        assert_eq!([pool.take(), pool.take(), pool.take()], [Some(ip(2)), Some(ip(3)), None]);
    }

    #[test]
    fn restored_addresses_are_never_handed_out_again() {
        let mut pool = pool("10.0.0.0/29");
        assert!(pool.restore(ip(3)));
        assert!(!pool.restore(ip(3)));
        for outside in [ip(0), ip(1), ip(7), ip(8)] {
            assert!(!pool.restore(outside), "{outside}");
        }
        let taken: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!(taken, [ip(2), ip(4), ip(5), ip(6)]);
    }

    proptest! {
        #[test]
        fn no_address_is_ever_held_twice_and_none_is_lost(steps in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut pool = pool("10.0.0.0/28");
            let mut held = BTreeSet::new();
            for step in steps {
                let victim = held.iter().nth(usize::from(step) % 16).copied();
                match victim.filter(|_| step % 2 == 0) {
                    Some(address) => {
                        held.remove(&address);
                        pool.free(address);
                    }
                    None => match pool.take() {
                        Some(address) => prop_assert!(held.insert(address)),
                        None => prop_assert_eq!(held.len(), 13),
                    },
                }
            }
        }
    }
}
