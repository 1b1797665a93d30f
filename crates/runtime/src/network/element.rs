//! What the firewall has to know of one workload: elements of the table's sets and maps, each as `nft` reads it and as
//! the kernel takes it. It refuses to decide anything: `firewall.nft` says what the sets mean.

use std::net::IpAddr;

use hypercore_model::{Allowance, PortProtocol};

use super::{
    address::BridgeName,
    attachment::{Attachment, PublishedPort, veth_name},
};

/// Bytes that the kernel compares an interface's name with (`IFNAMSIZ`).
const INTERFACE_NAME_SIZE: usize = 16;

/// One element. Parts of a concatenation are padded to four bytes each (nftables' registers).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Element {
    /// The set or map it belongs to.
    pub(super) set: &'static str,
    pub(super) key: Vec<u8>,
    /// What a map's key leads to.
    pub(super) data: Option<Vec<u8>>,
    /// The element counts for what is over this rate alone.
    pub(super) rate: Option<Rate>,
    /// The element in the language of `nft`.
    pub(super) text: String,
}

/// A rate as the kernel takes it, of bytes. Besides the burst it lets a second's worth through at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate {
    pub(super) bytes_per_s: u64,
    /// What may come at once, in bytes.
    pub(super) burst_bytes: u32,
}

/// Least burst, in bytes: a few packets as large as links of one host have them (64 KiB), or none would ever pass.
const BURST_BYTES_MIN: u32 = 4 * 64 * 1024;

/// All elements of a workload.
pub(super) fn elements_of(bridge: &BridgeName, attachment: &Attachment) -> Vec<Element> {
    let mut elements: Vec<_> =
        addresses(attachment).map(|address| member(attachment.group, address)).collect();
    let veth = veth_name(bridge, attachment.id);
    elements.extend(attachment.allow.iter().map(|allowance| allowed(*allowance, &veth)));
    let rate = attachment.bytes_per_s;
    elements.extend(
        rate.into_iter().flat_map(|rate| ["limited_out", "limited_in"].map(|set| limited(set, rate, &veth))),
    );
    for port in &attachment.ports {
        elements.extend(addresses(attachment).map(|address| published(*port, address)));
    }
    elements
}

fn addresses(attachment: &Attachment) -> impl Iterator<Item = IpAddr> {
    let address6 = attachment.address6.map(IpAddr::V6);
    std::iter::once(IpAddr::V4(attachment.address)).chain(address6)
}

/// Links of this group may reach this address: it is one of their own tenant's.
fn member(group: u32, address: IpAddr) -> Element {
    let set = if address.is_ipv4() { "members" } else { "members6" };
    // A group is a number of the host's byte order to the kernel.
    let key = [group.to_ne_bytes().to_vec(), octets(address)].concat();
    Element { set, key, data: None, rate: None, text: format!("{group} . {address}") }
}

fn allowed(allowance: Allowance, veth: &str) -> Element {
    let set = match allowance {
        Allowance::Host => "allowed_host",
        Allowance::Metadata => "allowed_metadata",
        Allowance::Tenants => "allowed_tenants",
    };
    Element { set, key: interface(veth), data: None, rate: None, text: format!("\"{veth}\"") }
}

/// What goes over this rate by the link is dropped.
fn limited(set: &'static str, bytes_per_s: u64, veth: &str) -> Element {
    let burst_bytes = u32::try_from(bytes_per_s / 10).unwrap_or(u32::MAX).max(BURST_BYTES_MIN);
    let text = format!("\"{veth}\" limit rate over {bytes_per_s} bytes/second burst {burst_bytes} bytes");
    Element { set, key: interface(veth), data: None, rate: Some(Rate { bytes_per_s, burst_bytes }), text }
}

fn interface(name: &str) -> Vec<u8> {
    let mut key = name.as_bytes().to_vec();
    key.resize(INTERFACE_NAME_SIZE, 0);
    key
}

fn published(port: PublishedPort, address: IpAddr) -> Element {
    let set = match (port.protocol, address) {
        (PortProtocol::Tcp, IpAddr::V4(_)) => "tcp_ports",
        (PortProtocol::Tcp, IpAddr::V6(_)) => "tcp_ports6",
        (PortProtocol::Udp, IpAddr::V4(_)) => "udp_ports",
        (PortProtocol::Udp, IpAddr::V6(_)) => "udp_ports6",
    };
    let mut data = octets(address);
    data.extend(port.container.get().to_be_bytes());
    data.extend([0, 0]);
    let key = port.host.get().to_be_bytes().to_vec();
    let text = format!("{} : {address} . {}", port.host, port.container);
    Element { set, key, data: Some(data), rate: None, text }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, num::NonZeroU16};

    use hypercore_model::WorkloadId;

    use super::*;

    #[test]
    fn a_workload_has_its_membership_its_allowances_and_its_ports() {
        let port = |number| NonZeroU16::new(number).unwrap();
        let attachment = Attachment {
            address6: Some("fd12::10.0.0.2".parse().unwrap()),
            group: 0x1234_0001,
            allow: BTreeSet::from([Allowance::Metadata]),
            bytes_per_s: Some(1_000_000),
            ports: vec![PublishedPort { host: port(8080), container: port(80), protocol: PortProtocol::Udp }],
            ..Attachment::example(WorkloadId::from_bytes([1; 16]))
        };
        let bridge: BridgeName = "hypercore0".parse().unwrap();
        let elements = elements_of(&bridge, &attachment);
        let sets: Vec<_> = elements.iter().map(|element| element.set).collect();
        assert_eq!(
            sets,
            [
                "members",
                "members6",
                "allowed_metadata",
                "limited_out",
                "limited_in",
                "udp_ports",
                "udp_ports6",
            ]
        );
        assert_eq!(elements[0].key[4..], [10, 0, 0, 2]);
        assert_eq!(elements[1].key.len(), 20);
        assert_eq!(elements[2].key.len(), INTERFACE_NAME_SIZE);
        assert_eq!(elements[3].rate, Some(Rate { bytes_per_s: 1_000_000, burst_bytes: BURST_BYTES_MIN }));
        assert!(elements[4].text.ends_with("limit rate over 1000000 bytes/second burst 262144 bytes"));
        assert_eq!(elements[5].text, "8080 : 10.0.0.2 . 80");
        assert_eq!(elements[5].key, [0x1f, 0x90]);
        assert_eq!(elements[5].data, Some(vec![10, 0, 0, 2, 0, 80, 0, 0]));
        assert_eq!(elements[6].text, "8080 : fd12::a00:2 . 80");
    }
}
