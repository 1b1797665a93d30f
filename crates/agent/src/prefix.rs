//! Which IPv6 prefix the workloads of this node get addresses from. It refuses a prefix on a host without IPv6, rather
//! than to give addresses that don't work.

use hypercore_model::NodeId;
use hypercore_runtime::network::{BridgeName, PrefixError, WorkloadPrefix, has_ipv6};

/// Why `[runtime] cidr6` can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cidr6Error {
    /// Not `auto`, `off` or a prefix that can serve workloads.
    #[error("[runtime] cidr6 is neither `auto` nor `off`")]
    Prefix(#[from] PrefixError),
    /// IPv6 is switched off on the host.
    #[error("the host has IPv6 disabled: enable it, or set [runtime] cidr6 to `off`")]
    Disabled,
}

/// Reads the setting: `off`, a prefix, or `auto`, which is one of this node's own when the host has IPv6.
pub(crate) fn prefix_of(
    setting: &str,
    node: NodeId,
    bridge: &BridgeName,
) -> Result<Option<WorkloadPrefix>, Cidr6Error> {
    let chosen = match setting {
        "off" => return Ok(None),
        "auto" if !has_ipv6() => return Ok(None),
        "auto" => return Ok(Some(WorkloadPrefix::derived(format!("{node}/{bridge}").as_bytes()))),
        prefix => prefix.parse()?,
    };
    if has_ipv6() { Ok(Some(chosen)) } else { Err(Cidr6Error::Disabled) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_off_a_prefix_or_a_mistake() {
        let (node, bridge) = (NodeId::from_bytes([1; 32]), "hypercore0".parse().unwrap());
        assert_eq!(prefix_of("off", node, &bridge).unwrap(), None);
        assert!(matches!(prefix_of("10.0.0.0/8", node, &bridge), Err(Cidr6Error::Prefix(_))));
        if has_ipv6() {
            let own = prefix_of("auto", node, &bridge).unwrap().unwrap();
            assert_eq!(prefix_of(&own.to_string(), node, &bridge).unwrap(), Some(own));
        }
    }
}
