//! The node's own interface: a bridge that carries the gateway's addresses and keeps the subnet's name on the host. It
//! has no ports: workloads are routed, each by a link of its own. It refuses to touch an interface that isn't this
//! node's, which it knows by the alias, and a subnet that the host has elsewhere.

use std::net::{IpAddr, Ipv4Addr};

use rtnetlink::{
    AddressMessageBuilder, LinkMessageBuilder, LinkUnspec, RouteMessageBuilder,
    packet_route::{
        RouteNetlinkMessage,
        address::AddressAttribute,
        link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridge, InfoData, InfoKind, LinkAttribute},
        route::RouteAttribute,
    },
};

use super::{
    address::{BridgeName, WorkloadSubnet},
    attachment::hardware_address,
    group::NodeTag,
    link::{self, Link, LinkError},
    netlink::{CREATE, Netlink},
    prefix::WorkloadPrefix,
};

/// How the alias of every node's bridge begins.
const ALIAS: &str = "hypercore node with ";
/// Longest interface alias the kernel keeps, in bytes (`IFALIASZ` without its NUL).
const ALIAS_LEN_MAX: usize = 255;

/// Makes the bridge with the gateway's addresses, or takes over the one that this owner left. `owner` tells it from
/// other nodes: where they keep their namespaces. Returns its MTU.
pub(super) fn ensure(
    netlink: &mut Netlink,
    name: &BridgeName,
    subnet: WorkloadSubnet,
    prefix: Option<WorkloadPrefix>,
    owner: &str,
) -> Result<u32, LinkError> {
    let alias: String = format!("{ALIAS}{owner}").chars().take(ALIAS_LEN_MAX / 4).collect();
    let links = link::list(netlink)?;
    let existing = links.iter().find(|link| link.name == name.as_str());
    if let Some(link) = existing.filter(|link| !link.is_bridge || link.alias.as_ref() != Some(&alias)) {
        let owner = link.alias.clone().unwrap_or_else(|| "somebody else".to_owned());
        return Err(LinkError::Taken { name: name.to_string(), owner });
    }
    refuse_shared_tag(&links, name)?;
    refuse_taken_subnet(netlink, &links, name, subnet)?;
    if existing.is_none() {
        let mtu = uplink_mtu(netlink, &links)?;
        create(netlink, name, subnet, mtu)?;
    }
    // No addresses but those it is given: it has no neighbours that a link-local one could be for.
    let no_address = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
    let mut message = LinkUnspec::new_with_name(name.as_str()).alias(alias).up();
    if prefix.is_some() {
        message = message.append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![no_address]));
    }
    link::set(netlink, name.as_str(), message.build())?;
    let Link { index, mtu, .. } = link::get(netlink, name.as_str())?;
    link::add_address(netlink, name.as_str(), index, subnet.gateway().into(), subnet.prefix_len())?;
    if let Some(prefix) = prefix {
        let gateway = prefix.address_of(subnet.gateway());
        link::add_address(netlink, name.as_str(), index, gateway.into(), prefix.prefix_len())?;
    }
    Ok(mtu.unwrap_or(1500))
}

/// Two nodes whose links can't be told apart would take each other's for leftovers.
fn refuse_shared_tag(links: &[Link], name: &BridgeName) -> Result<(), LinkError> {
    let tag_of = |link: &Link| link.name.parse().ok().map(|name: BridgeName| NodeTag::of(&name));
    let is_node = |link: &&Link| link.alias.as_ref().is_some_and(|alias| alias.starts_with(ALIAS));
    let mut others = links.iter().filter(is_node).filter(|link| link.name != name.as_str());
    match others.find(|link| tag_of(link) == Some(NodeTag::of(name))) {
        Some(other) => Err(LinkError::Alike { name: name.to_string(), other: other.name.clone() }),
        None => Ok(()),
    }
}

fn create(
    netlink: &mut Netlink,
    name: &BridgeName,
    subnet: WorkloadSubnet,
    mtu: u32,
) -> Result<(), LinkError> {
    let mut bridge = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::Bridge)
        .name(name.as_str())
        .mtu(mtu)
        // Set, not inherited: otherwise the bridge's address changes with its ports, and connections stall.
        .address(hardware_address(subnet.gateway()).to_vec());
    // Every packet to a multicast group goes to every workload anyway; snooping would only cost timers.
    bridge = bridge.set_info_data(InfoData::Bridge(vec![InfoBridge::MulticastSnooping(false)]));
    netlink
        .change(RouteNetlinkMessage::NewLink(bridge.build()), CREATE)
        .map_err(|source| LinkError::Create(name.to_string(), source))
}

/// Two interfaces with overlapping subnets would make the host answer to only one of them.
fn refuse_taken_subnet(
    netlink: &mut Netlink,
    links: &[Link],
    bridge: &BridgeName,
    subnet: WorkloadSubnet,
) -> Result<(), LinkError> {
    let all = AddressMessageBuilder::<Ipv4Addr>::new().build();
    let answers = netlink
        .dump(RouteNetlinkMessage::GetAddress(all))
        .map_err(|source| LinkError::List("addresses", source))?;
    for answer in answers {
        let RouteNetlinkMessage::NewAddress(message) = answer else { continue };
        let link = links.iter().find(|link| link.index == message.header.index);
        let interface = link.map_or("", |link| &link.name);
        let is_foreign = interface != bridge.as_str();
        for attribute in message.attributes {
            if let AddressAttribute::Local(IpAddr::V4(address)) = attribute
                && is_foreign
                && overlaps(subnet, address, message.header.prefix_len)
            {
                return Err(LinkError::SubnetTaken { subnet, address, interface: interface.to_owned() });
            }
        }
    }
    Ok(())
}

fn overlaps(subnet: WorkloadSubnet, address: Ipv4Addr, prefix_len: u8) -> bool {
    let shared = u32::from(prefix_len.min(subnet.prefix_len()));
    let mask = u32::MAX.checked_shl(32 - shared).unwrap_or(0);
    address.to_bits() & mask == subnet.gateway().to_bits() & mask
}

/// The MTU of the interface that the default route leaves by, so that workloads never send what it can't carry;
/// Ethernet's 1,500 without one.
fn uplink_mtu(netlink: &mut Netlink, links: &[Link]) -> Result<u32, LinkError> {
    let all = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let routes = netlink
        .dump(RouteNetlinkMessage::GetRoute(all))
        .map_err(|source| LinkError::List("routes", source))?;
    let uplink = routes.iter().find_map(|answer| {
        let RouteNetlinkMessage::NewRoute(route) = answer else { return None };
        let is_default = route.header.destination_prefix_length == 0;
        route.attributes.iter().filter(|_| is_default).find_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => Some(*index),
            _ => None,
        })
    });
    let link = uplink.and_then(|index| links.iter().find(|link| link.index == index));
    Ok(link.and_then(|link| link.mtu).unwrap_or(1500))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_overlap_when_either_contains_the_other() {
        let subnet: WorkloadSubnet = "172.16.0.0/16".parse().unwrap();
        assert!(overlaps(subnet, Ipv4Addr::new(172, 16, 9, 9), 24));
        assert!(overlaps(subnet, Ipv4Addr::new(172, 20, 0, 1), 12));
        assert!(overlaps(subnet, Ipv4Addr::new(172, 16, 0, 1), 32));
        assert!(!overlaps(subnet, Ipv4Addr::new(172, 17, 0, 1), 16));
        assert!(!overlaps(subnet, Ipv4Addr::new(10, 0, 0, 1), 8));
        assert!(!overlaps(subnet, Ipv4Addr::new(127, 0, 0, 1), 8));
    }
}
