//! Interfaces, their addresses and routes: what the node's bridge and its workloads' links have in common. Each function
//! is one netlink exchange. It refuses to know what an interface is for.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use nix::libc::ENODEV;
use rtnetlink::{
    AddressMessageBuilder, LinkMessageBuilder, LinkUnspec, RouteMessageBuilder,
    packet_core::{NLM_F_CREATE, NLM_F_REPLACE},
    packet_route::{
        RouteNetlinkMessage,
        address::AddressHeaderFlags,
        link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage},
        route::{RouteAttribute, RouteMessage, RouteScope},
    },
};

use super::{address::WorkloadSubnet, netlink::Netlink};

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
    /// Another node's bridge has a name that is the same to the firewall.
    #[error("the name {name} can't be told from {other} by the firewall; choose another [runtime] bridge")]
    Alike {
        /// The name.
        name: String,
        /// The other node's.
        other: String,
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
    /// A route can't be set.
    #[error("can't set the route of {0}")]
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
    pub(super) alias: Option<String>,
    pub(super) mtu: Option<u32>,
    pub(super) group: u32,
    pub(super) is_bridge: bool,
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            controller: None,
            alias: None,
            mtu: None,
            group: 0,
            is_bridge: false,
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Controller(index) => link.controller = Some(index),
                LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
                LinkAttribute::Group(group) => link.group = group,
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

/// Removes an interface (and a veth's peer with it). One that doesn't exist is fine.
pub(super) fn remove(netlink: &mut Netlink, name: &str) -> Result<(), LinkError> {
    let link = LinkUnspec::new_with_name(name).build();
    match netlink.change(RouteNetlinkMessage::DelLink(link), 0) {
        Err(error) if error.raw_os_error() == Some(ENODEV) => Ok(()),
        other => other.map_err(|source| LinkError::Remove(name.to_owned(), source)),
    }
}

/// One interface by its name.
pub(super) fn get(netlink: &mut Netlink, name: &str) -> Result<Link, LinkError> {
    let wrap = |source| LinkError::Configure(name.to_owned(), source);
    let request = RouteNetlinkMessage::GetLink(LinkUnspec::new_with_name(name).build());
    let missing = || wrap(io::Error::from_raw_os_error(ENODEV));
    netlink.get(request).map_err(wrap).and_then(|answer| link_of(answer).ok_or_else(missing))
}

/// Changes an interface.
pub(super) fn set(netlink: &mut Netlink, name: &str, message: LinkMessage) -> Result<(), LinkError> {
    netlink
        .change(RouteNetlinkMessage::NewLink(message), 0)
        .map_err(|source| LinkError::Configure(name.to_owned(), source))
}

/// Gives an interface an address, to be used at once: nobody else can have it, so nobody is asked (RFC 4862, 5.4).
pub(super) fn add_address(
    netlink: &mut Netlink,
    name: &str,
    index: u32,
    address: IpAddr,
    prefix_len: u8,
) -> Result<(), LinkError> {
    let mut message = match address {
        IpAddr::V4(address) => {
            AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(address, prefix_len).build()
        }
        IpAddr::V6(address) => {
            AddressMessageBuilder::<Ipv6Addr>::new().index(index).address(address, prefix_len).build()
        }
    };
    if address.is_ipv6() {
        message.header.flags |= AddressHeaderFlags::Nodad;
    }
    netlink
        .change(RouteNetlinkMessage::NewAddress(message), NLM_F_REPLACE | NLM_F_CREATE)
        .map_err(|source| LinkError::Address(name.to_owned(), source))
}

/// Leads packets to `destination` out by an interface; the host's own come from `source`.
pub(super) fn route_to(
    netlink: &mut Netlink,
    name: &str,
    index: u32,
    destination: IpAddr,
    source: IpAddr,
) -> Result<(), LinkError> {
    let mut route = empty_route(destination);
    route.header.destination_prefix_length = if destination.is_ipv4() { 32 } else { 128 };
    route.header.scope = RouteScope::Link;
    route.attributes.push(RouteAttribute::Destination(destination.into()));
    route.attributes.push(RouteAttribute::PrefSource(source.into()));
    route.attributes.push(RouteAttribute::Oif(index));
    add_route(netlink, name, route)
}

/// Leads everything by a gateway.
pub(super) fn route_by(netlink: &mut Netlink, name: &str, gateway: IpAddr) -> Result<(), LinkError> {
    let mut route = empty_route(gateway);
    route.attributes.push(RouteAttribute::Gateway(gateway.into()));
    add_route(netlink, name, route)
}

fn empty_route(of_family: IpAddr) -> RouteMessage {
    match of_family {
        IpAddr::V4(_) => RouteMessageBuilder::<Ipv4Addr>::new().build(),
        IpAddr::V6(_) => RouteMessageBuilder::<Ipv6Addr>::new().build(),
    }
}

fn add_route(netlink: &mut Netlink, name: &str, route: RouteMessage) -> Result<(), LinkError> {
    netlink
        .change(RouteNetlinkMessage::NewRoute(route), NLM_F_REPLACE | NLM_F_CREATE)
        .map_err(|source| LinkError::Route(name.to_owned(), source))
}
