//! The link of one workload: a veth pair, one end on the host, the other one `eth0` in its namespace. Nothing is bridged:
//! the host routes to each workload by its link, so that one workload's frames never reach another one.
//!
//! Both ends have the same hardware address and no ARP: whatever is sent arrives at the other end, whoever it is meant
//! for. There are no neighbours to ask and so no answers to forge, for ARP and for IPv6's neighbour discovery alike.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    os::fd::AsRawFd,
};

use nix::libc::{AF_INET, EEXIST};
use rtnetlink::{
    LinkMessageBuilder, LinkUnspec,
    packet_core::DefaultNla,
    packet_route::{
        RouteNetlinkMessage,
        link::{
            AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute,
            LinkMessage,
        },
    },
};

use super::{
    address::{BridgeName, WorkloadSubnet},
    attachment::{Attachment, hardware_address, veth_name},
    link::{self, LinkError},
    namespace,
    netlink::{CREATE, Netlink},
    prefix::WorkloadPrefix,
    tap,
};

/// Name of a workload's interface inside its namespace.
const INSIDE: &str = "eth0";
/// `IFLA_INET_CONF` and `IPV4_DEVCONF_ROUTE_LOCALNET` (linux/if_link.h, linux/ip.h), and `NLA_F_NESTED`.
const INET_CONF: u16 = 1;
const ROUTE_LOCALNET: u16 = 26;
const NESTED: u16 = 1 << 15;

/// Everything about a workload's link.
#[derive(Debug)]
pub(super) struct Veth {
    /// The host's end.
    name: String,
    bridge: BridgeName,
    group: u32,
    mtu: u32,
    subnet: WorkloadSubnet,
    address: Ipv4Addr,
    /// The prefix, on a node that has one and for a workload that has an address in it.
    prefix: Option<WorkloadPrefix>,
    /// A machine's link is a TAP device, whose other end the machine configures for itself.
    is_machine: bool,
}

impl Veth {
    pub(super) fn new(
        bridge: &BridgeName,
        mtu: u32,
        subnet: WorkloadSubnet,
        prefix: Option<WorkloadPrefix>,
        attachment: &Attachment,
    ) -> Self {
        Self {
            name: veth_name(bridge, attachment.id),
            bridge: bridge.clone(),
            group: attachment.group,
            mtu,
            subnet,
            address: attachment.address,
            prefix: prefix.filter(|_| attachment.address6.is_some()),
            is_machine: attachment.is_machine,
        }
    }

    /// The name of the host's end.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Makes the device that is a machine's link, and the host's routes to it; `false` for what is no machine's. Call it
    /// in the host's namespace.
    pub(super) fn create_for_machine(&self, host: &mut Netlink) -> Result<bool, LinkError> {
        if !self.is_machine {
            return Ok(false);
        }
        tap::create(&self.name).map_err(|source| LinkError::Create(self.name.clone(), source))?;
        self.configure_host(host).map(|()| true)
    }

    /// Makes the pair, with its peer born inside `namespace`, and the host's routes to it. Only the host's end is up:
    /// the kernel refuses to bring the peer up before the pair is complete.
    pub(super) fn create(&self, host: &mut Netlink, namespace: &impl AsRawFd) -> Result<(), LinkError> {
        let hardware = hardware_address(self.address).to_vec();
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(INSIDE)
            .mtu(self.mtu)
            .address(hardware.clone())
            .setns_by_fd(namespace.as_raw_fd())
            .build();
        let message = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::Veth)
            .name(self.name.as_str())
            .mtu(self.mtu)
            .address(hardware)
            .link_group(self.group)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        let create = |host: &mut Netlink, message: LinkMessage| {
            host.change(RouteNetlinkMessage::NewLink(message), CREATE)
        };
        match create(host, message.clone()) {
            Err(error) if error.raw_os_error() == Some(EEXIST) => {
                // What a crash left: the name is this workload's alone.
                link::remove(host, &self.name)?;
                create(host, message)
            }
            other => other,
        }
        .map_err(|source| LinkError::Create(self.name.clone(), source))?;
        self.configure_host(host)
    }

    /// Makes the host's end of an existing pair what it should be: of its group, up, with routes to the workload.
    pub(super) fn configure_host(&self, host: &mut Netlink) -> Result<(), LinkError> {
        let name = self.name.as_str();
        let mut families = vec![AfSpecUnspec::Other(route_localnet())];
        if self.prefix.is_some() {
            families.push(AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]));
        }
        let message = LinkUnspec::new_with_name(name)
            .address(hardware_address(self.address).to_vec())
            .nocontroller()
            .link_group(self.group)
            .alias(self.bridge.as_str())
            .append_extra_attribute(LinkAttribute::AfSpecUnspec(families))
            .arp(false)
            .up()
            .build();
        link::set(host, name, message)?;
        if self.prefix.is_none() {
            let setting = namespace::set(&format!("net/ipv6/conf/{name}/disable_ipv6"), "1");
            setting.map_err(|error| LinkError::Configure(name.to_owned(), io::Error::other(error)))?;
        }
        let index = link::get(host, name)?.index;
        for (address, gateway, _) in self.addresses() {
            link::route_to(host, name, index, address, gateway)?;
        }
        Ok(())
    }

    /// Configures the inside of the namespace that `inside` was opened in: loopback up, `eth0` with its addresses, the
    /// default routes by the bridge's.
    pub(super) fn configure_inside(&self, inside: &mut Netlink) -> Result<(), LinkError> {
        if self.is_machine {
            return Ok(());
        }
        link::set(inside, "lo", LinkUnspec::new_with_name("lo").up().build())?;
        let index = link::get(inside, INSIDE)?.index;
        link::set(inside, INSIDE, LinkUnspec::new_with_index(index).arp(false).up().build())?;
        for (address, gateway, prefix_len) in self.addresses() {
            link::add_address(inside, INSIDE, index, address, prefix_len)?;
            link::route_by(inside, INSIDE, gateway)?;
        }
        Ok(())
    }

    /// Each of the workload's addresses, with its gateway and the length of its prefix.
    fn addresses(&self) -> impl Iterator<Item = (IpAddr, IpAddr, u8)> {
        let (address, gateway) = (self.address, self.subnet.gateway());
        let six = |prefix: WorkloadPrefix| {
            (prefix.address_of(address).into(), prefix.address_of(gateway).into(), prefix.prefix_len())
        };
        std::iter::once((address.into(), gateway.into(), self.subnet.prefix_len()))
            .chain(self.prefix.map(six))
    }
}

/// For connections of the host to 127.0.0.1; the firewall keeps workloads from using it the other way. As the kernel
/// takes it: a list of attributes by number, where reading gives an array, which is all that the library knows.
fn route_localnet() -> DefaultNla {
    let attribute = |kind: u16, value: &[u8]| {
        let len = u16::try_from(4 + value.len()).expect("a setting is four bytes long");
        [&len.to_ne_bytes(), &kind.to_ne_bytes(), value].concat()
    };
    let setting = attribute(ROUTE_LOCALNET, &1_u32.to_ne_bytes());
    DefaultNla::new(AF_INET as u16 | NESTED, attribute(INET_CONF | NESTED, &setting))
}
