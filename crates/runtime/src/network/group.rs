//! Interface groups: the number on a link by which the firewall tells the node's own links from others, and the
//! workloads of one tenant from those of another. Numbers only; it refuses to touch links and rules.
//!
//! ```text
//!   31          16 15           0
//!   | node's tag  |  tenant's no. |     one number per link, the same for all links of a tenant on this node
//! ```

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};

use super::address::BridgeName;

/// The bits of a group that tell the node.
pub(super) const NODE_MASK: u32 = 0xffff_0000;

/// What all groups of a node have in common. Two bridges may have the same one: opening a network checks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NodeTag(u32);

impl NodeTag {
    pub(super) fn of(bridge: &BridgeName) -> Self {
        let digest = Sha256::digest(bridge.as_str());
        // Never 0: that is the group of all links that were given none.
        let tag = u16::from_be_bytes([digest[0], digest[1]]).max(1);
        Self(u32::from(tag) << 16)
    }

    /// The tag as a group without a tenant.
    pub(super) const fn number(self) -> u32 {
        self.0
    }

    /// Whether a link of this group is the node's and some tenant's.
    pub(super) const fn owns(self, group: u32) -> bool {
        group & NODE_MASK == self.0 && group & !NODE_MASK != 0
    }

    /// The lowest group of the node that no tenant has, or `None` when each of the 65,535 is taken.
    pub(super) fn free_group(self, taken: &BTreeSet<u32>) -> Option<u32> {
        (1..=!NODE_MASK).map(|tenant| self.0 | tenant).find(|group| !taken.contains(group))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_belong_to_their_node_and_are_not_handed_out_twice() {
        let tag = |name: &str| NodeTag::of(&name.parse().unwrap());
        let (one, other) = (tag("hypercore0"), tag("hypercore1"));
        assert_ne!(one, other);
        let first = one.free_group(&BTreeSet::new()).unwrap();
        let second = one.free_group(&BTreeSet::from([first])).unwrap();
        assert_ne!(first, second);
        assert!(one.owns(first) && one.owns(second) && !other.owns(first));
        assert!(!one.owns(one.number()), "a group without a tenant is nobody's");
        let all = (1..=0xffff).map(|tenant| one.number() | tenant).collect();
        assert_eq!(one.free_group(&all), None);
    }
}
