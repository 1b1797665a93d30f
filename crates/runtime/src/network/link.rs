//! The links of a node: its bridge, and one veth pair per workload. Each function is one netlink exchange or two.
//! It refuses to touch an interface that isn't this node's: the bridge carries its owner in its alias.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    os::fd::AsRawFd,
};

use nix::libc::{EEXIST, ENODEV};
use rtnetlink::{
    AddressMessageBuilder, LinkMessageBuilder, LinkUnspec, RouteMessageBuilder,
    packet_core::{NLM_F_CREATE, NLM_F_REPLACE},
    packet_route::{
        RouteNetlinkMessage,
        address::AddressAttribute,
        link::{
            AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridge, InfoBridgePort, InfoData, InfoKind,
            InfoPortData, InfoPortKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage,
        },
        route::RouteAttribute,
    },
};

use super::{
    address::{BridgeName, WorkloadSubnet},
    attachment::hardware_address,
    netlink::{CREATE, Netlink},
};

/// Name of a workload's interface inside its namespace.
const INSIDE: &str = "eth0";
/// Longest interface alias the kernel keeps, in bytes (`IFALIASZ` without its NUL).
const ALIAS_LEN_MAX: usize = 255;

/// Which change of a link failed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No netlink socket.
    #[error("can't open a netlink socket")]
    Socket(#[source] io::Error),
    /// The kernel's list of interfaces, addresses or routes can't be read.
    #[error("can't list the host's {0}")]
    List(&'static str, #[source] io::Error),
    /// The bridge's name belongs to something else.
    #[error("an interface {name} exists already and belongs to {owner}; choose another [runtime] bridge")]
    Taken {
        /// The name.
        name: String,
        /// Whose it is.
        owner: String,
    },
    /// The subnet is in use elsewhere on this host.
    #[error("the host already has {address} on {interface}, inside {subnet}; choose another [runtime] cidr")]
    SubnetTaken {
        /// The configured subnet.
        subnet: WorkloadSubnet,
        /// The host's address in it.
        address: Ipv4Addr,
        /// Where the host has it.
        interface: String,
    },
    /// An interface can't be made.
    #[error("can't create the interface {0}")]
    Create(String, #[source] io::Error),
    /// An interface can't be configured.
    #[error("can't configure the interface {0}")]
    Configure(String, #[source] io::Error),
    /// An address can't be given to an interface.
    #[error("can't give the interface {0} its address")]
    Address(String, #[source] io::Error),
    /// The default route can't be set.
    #[error("can't set the default route of {0}")]
    Route(String, #[source] io::Error),
    /// An interface can't be removed.
    #[error("can't remove the interface {0}")]
    Remove(String, #[source] io::Error),
}

/// One interface, as far as this module needs to know it.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) controller: Option<u32>,
    alias: Option<String>,
    mtu: Option<u32>,
    is_bridge: bool,
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            controller: None,
            alias: None,
            mtu: None,
            is_bridge: false,
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Controller(index) => link.controller = Some(index),
                LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
                LinkAttribute::Mtu(mtu) => link.mtu = Some(mtu),
                LinkAttribute::LinkInfo(infos) => {
                    link.is_bridge = infos.contains(&LinkInfo::Kind(InfoKind::Bridge));
                }
                _ => {}
            }
        }
        link
    }
}

/// All interfaces of the socket's namespace.
pub(super) fn list(netlink: &mut Netlink) -> Result<Vec<Link>, LinkError> {
    let all = LinkMessageBuilder::<LinkUnspec>::new().build();
    let answers = netlink
        .dump(RouteNetlinkMessage::GetLink(all))
        .map_err(|source| LinkError::List("interfaces", source))?;
    Ok(answers.into_iter().filter_map(link_of).collect())
}

fn link_of(answer: RouteNetlinkMessage) -> Option<Link> {
    match answer {
        RouteNetlinkMessage::NewLink(message) => Some(message.into()),
        _ => None,
    }
}

/// Makes the bridge with the gateway's address, or takes over the one that this owner left. Returns its index.
pub(super) fn ensure_bridge(
    netlink: &mut Netlink,
    name: &BridgeName,
    subnet: WorkloadSubnet,
    owner: &str,
) -> Result<u32, LinkError> {
    let alias: String = owner.chars().take(ALIAS_LEN_MAX / 4).collect();
    let links = list(netlink)?;
    let existing = links.iter().find(|link| link.name == name.as_str());
    if let Some(link) = existing.filter(|link| !link.is_bridge || link.alias.as_ref() != Some(&alias)) {
        let owner = link.alias.clone().unwrap_or_else(|| "somebody else".to_owned());
        return Err(LinkError::Taken { name: name.to_string(), owner });
    }
    refuse_taken_subnet(netlink, &links, name, subnet)?;
    if existing.is_none() {
        let mtu = uplink_mtu(netlink, &links)?;
        create_bridge(netlink, name, subnet, mtu)?;
    }
    let link = LinkUnspec::new_with_name(name.as_str()).alias(alias).up().build();
    set(netlink, name.as_str(), link)?;
    let index = index_of(netlink, name.as_str())?;
    add_address(netlink, name.as_str(), index, subnet.gateway(), subnet.prefix_len())?;
    Ok(index)
}

fn create_bridge(
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

/// A veth pair to make: one end on the bridge, the other one `eth0` inside a namespace.
#[derive(Debug)]
pub(super) struct VethPair<'a> {
    pub(super) name: &'a str,
    pub(super) bridge_index: u32,
    pub(super) mtu: u32,
    pub(super) address: Ipv4Addr,
}

/// Makes a veth pair whose peer is born inside `namespace`. Only the bridge's end is up: the kernel refuses to bring
/// the peer up before the pair is complete.
pub(super) fn create_veth(
    netlink: &mut Netlink,
    pair: &VethPair<'_>,
    namespace: &impl AsRawFd,
) -> Result<(), LinkError> {
    let peer = LinkMessageBuilder::<LinkUnspec>::new()
        .name(INSIDE)
        .mtu(pair.mtu)
        .address(hardware_address(pair.address).to_vec())
        .setns_by_fd(namespace.as_raw_fd())
        .build();
    let message = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::Veth)
        .name(pair.name)
        .mtu(pair.mtu)
        .controller(pair.bridge_index)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .up();
    let create = |netlink: &mut Netlink, message: LinkMessage| {
        netlink.change(RouteNetlinkMessage::NewLink(message), CREATE)
    };
    let message = message.build();
    match create(netlink, message.clone()) {
        Err(error) if error.raw_os_error() == Some(EEXIST) => {
            // What a crash left: the name is this workload's alone.
            remove(netlink, pair.name)?;
            create(netlink, message)
        }
        other => other,
    }
    .map_err(|source| LinkError::Create(pair.name.to_owned(), source))?;
    configure_port(netlink, pair.name)
}

/// What only an existing bridge port can be told.
fn configure_port(netlink: &mut Netlink, name: &str) -> Result<(), LinkError> {
    // A bridge port needs no address of its own, and IPv6 would give it one.
    let no_address = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
    // A workload that connects to its own published port: where br_netfilter is loaded, such a packet has to leave
    // by the port it came from.
    let hairpin = InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(true)]);
    let link = LinkUnspec::new_with_name(name)
        .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![no_address]))
        .set_port_kind(InfoPortKind::Bridge)
        .set_port_data(hairpin)
        .build();
    set(netlink, name, link)
}

/// Configures the inside of a namespace: loopback up, `eth0` with its address, the default route by the bridge.
pub(super) fn configure_inside(
    netlink: &mut Netlink,
    address: Ipv4Addr,
    subnet: WorkloadSubnet,
) -> Result<(), LinkError> {
    set(netlink, "lo", LinkUnspec::new_with_name("lo").up().build())?;
    let index = index_of(netlink, INSIDE)?;
    add_address(netlink, INSIDE, index, address, subnet.prefix_len())?;
    set(netlink, INSIDE, LinkUnspec::new_with_index(index).up().build())?;
    let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(subnet.gateway()).build();
    netlink
        .change(RouteNetlinkMessage::NewRoute(route), CREATE)
        .map_err(|source| LinkError::Route(INSIDE.to_owned(), source))
}

/// Puts an existing veth back on the bridge.
pub(super) fn enslave(netlink: &mut Netlink, name: &str, bridge_index: u32) -> Result<(), LinkError> {
    set(netlink, name, LinkUnspec::new_with_name(name).controller(bridge_index).up().build())?;
    configure_port(netlink, name)
}

/// Removes an interface (and a veth's peer with it). One that doesn't exist is fine.
pub(super) fn remove(netlink: &mut Netlink, name: &str) -> Result<(), LinkError> {
    let link = LinkUnspec::new_with_name(name).build();
    match netlink.change(RouteNetlinkMessage::DelLink(link), 0) {
        Err(error) if error.raw_os_error() == Some(ENODEV) => Ok(()),
        other => other.map_err(|source| LinkError::Remove(name.to_owned(), source)),
    }
}

/// The MTU of an interface.
pub(super) fn mtu_of(netlink: &mut Netlink, name: &str) -> Result<u32, LinkError> {
    Ok(get(netlink, name)?.mtu.unwrap_or(1500))
}

fn index_of(netlink: &mut Netlink, name: &str) -> Result<u32, LinkError> {
    Ok(get(netlink, name)?.index)
}

fn get(netlink: &mut Netlink, name: &str) -> Result<Link, LinkError> {
    let wrap = |source| LinkError::Configure(name.to_owned(), source);
    let request = RouteNetlinkMessage::GetLink(LinkUnspec::new_with_name(name).build());
    let missing = || wrap(io::Error::from_raw_os_error(ENODEV));
    netlink.get(request).map_err(wrap).and_then(|answer| link_of(answer).ok_or_else(missing))
}

fn set(netlink: &mut Netlink, name: &str, message: LinkMessage) -> Result<(), LinkError> {
    netlink
        .change(RouteNetlinkMessage::NewLink(message), 0)
        .map_err(|source| LinkError::Configure(name.to_owned(), source))
}

fn add_address(
    netlink: &mut Netlink,
    name: &str,
    index: u32,
    address: Ipv4Addr,
    prefix_len: u8,
) -> Result<(), LinkError> {
    let message = AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(address, prefix_len).build();
    netlink
        .change(RouteNetlinkMessage::NewAddress(message), NLM_F_REPLACE | NLM_F_CREATE)
        .map_err(|source| LinkError::Address(name.to_owned(), source))
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
