//! What a workload asks of the network, and what it got: its namespace, its addresses, its published ports. Plain data
//! that the agent keeps in a file and hands back when it restarts; nothing here touches the kernel.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroU16,
    path::{Path, PathBuf},
};

use hypercore_model::{Allowance, PortMapping, PortProtocol, TenantName, WorkloadId};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::address::BridgeName;

/// What a workload asks of the network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttachmentRequest {
    /// Ports to publish.
    pub ports: Vec<PortMapping>,
    /// Whose it is: workloads of one tenant reach each other.
    pub tenant: TenantName,
    /// What it may reach beyond that and the outside.
    pub allow: BTreeSet<Allowance>,
    /// Whether its link is a machine's: a TAP device, whose other end the machine opens.
    pub is_machine: bool,
    /// Most that it sends, and most that it receives, in bytes a second.
    pub bytes_per_s: Option<u64>,
}

/// One published port, with the host port that was asked for or chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PublishedPort {
    /// Port on the host, at all of its addresses but `::1`.
    pub host: NonZeroU16,
    /// Port inside the workload.
    pub container: NonZeroU16,
    /// TCP or UDP.
    pub protocol: PortProtocol,
}

impl PublishedPort {
    /// Whether this port is what `mapping` asks for.
    #[must_use]
    pub fn satisfies(&self, mapping: &PortMapping) -> bool {
        self.container == mapping.container
            && self.protocol == mapping.protocol
            && mapping.host.is_none_or(|host| host == self.host)
    }
}

impl fmt::Display for PublishedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.host, self.container, self.protocol.as_str())
    }
}

/// A workload's place on its node's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The workload.
    pub id: WorkloadId,
    /// Its network namespace, as a file that `setns` and the OCI spec take.
    pub netns: PathBuf,
    /// Its address on `eth0`.
    pub address: Ipv4Addr,
    /// Length of the subnet's prefix, in bits.
    pub prefix_len: u8,
    /// Its default route: the bridge.
    pub gateway: Ipv4Addr,
    /// Its published ports, in the order they were asked for.
    pub ports: Vec<PublishedPort>,
    /// Its IPv6 address, on a node that gives its workloads any.
    #[serde(default)]
    pub address6: Option<Ipv6Addr>,
    /// Whose it is.
    #[serde(default)]
    pub tenant: TenantName,
    /// What it may reach beyond its tenant's workloads and the outside.
    #[serde(default)]
    pub allow: BTreeSet<Allowance>,
    /// The interface group of its link, by which the firewall knows its tenant. 0 in files from before there were any.
    #[serde(default)]
    pub(super) group: u32,
    /// Whether its link is a machine's.
    #[serde(default)]
    pub(super) is_machine: bool,
    /// Most that it sends, and most that it receives, in bytes a second.
    #[serde(default)]
    pub bytes_per_s: Option<u64>,
    /// The gateway of its IPv6 address, if it has one.
    #[serde(default)]
    pub(super) gateway6: Option<(Ipv6Addr, u8)>,
}

impl Attachment {
    /// The hardware address of both ends of its link, such as `02:68:0a:00:00:02`.
    #[must_use]
    pub fn hardware_address(&self) -> String {
        hardware_address(self.address).map(|byte| format!("{byte:02x}")).join(":")
    }

    /// Each of its addresses, with its gateway and the length of its prefix in bits.
    pub fn addresses(&self) -> impl Iterator<Item = (IpAddr, IpAddr, u8)> {
        let six = self.address6.zip(self.gateway6);
        std::iter::once((self.address.into(), self.gateway.into(), self.prefix_len))
            .chain(six.map(|(address, (gateway, len))| (address.into(), gateway.into(), len)))
    }

    /// Whether this is what `request` asks for.
    #[must_use]
    pub fn satisfies(&self, request: &AttachmentRequest) -> bool {
        self.ports.len() == request.ports.len()
            && self.ports.iter().zip(&request.ports).all(|(port, mapping)| port.satisfies(mapping))
            && (&self.tenant, &self.allow) == (&request.tenant, &request.allow)
            && (self.is_machine, self.bytes_per_s) == (request.is_machine, request.bytes_per_s)
    }
}

#[cfg(test)]
impl Attachment {
    /// One without ports, for tests to start from.
    pub(super) fn example(id: WorkloadId) -> Self {
        Self {
            id,
            netns: "/run/hypercore/netns/x".into(),
            address: Ipv4Addr::new(10, 0, 0, 2),
            prefix_len: 24,
            gateway: Ipv4Addr::new(10, 0, 0, 1),
            ports: Vec::new(),
            address6: None,
            tenant: TenantName::default(),
            allow: BTreeSet::new(),
            group: 0,
            is_machine: false,
            bytes_per_s: None,
            gateway6: None,
        }
    }
}

/// The namespace file of a workload.
pub(super) fn netns_path(directory: &Path, id: WorkloadId) -> PathBuf {
    directory.join(id.to_string())
}

/// The host's end of a workload's veth pair: the same name every time, so that a leftover can be found by it. The
/// bridge is hashed in because two nodes of one machine may hold the same workload while it moves between them.
/// 52 bits: two of a million workloads share a name once in ten thousand such nodes, and attaching then fails cleanly.
pub(super) fn veth_name(bridge: &BridgeName, id: WorkloadId) -> String {
    let digest = Sha256::new().chain_update(bridge.as_str()).chain_update([0]).chain_update(id.as_bytes());
    let mut name = format!("{VETH_PREFIX}{}", hex::encode(&digest.finalize()[..7]));
    name.truncate(BridgeName::LEN_MAX);
    name
}

/// How every veth name begins.
pub(super) const VETH_PREFIX: &str = "hc";

/// The hardware address that goes with an IPv4 address: locally administered, and the same at both ends of a link (see
/// `veth.rs` for why).
pub(super) fn hardware_address(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x68, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_veth_name_fits_and_depends_on_bridge_and_workload() {
        let id = |byte| WorkloadId::from_bytes([byte; 16]);
        let bridge = |name: &str| name.parse::<BridgeName>().unwrap();
        let name = veth_name(&bridge("hypercore0"), id(1));
        assert_eq!(name.len(), BridgeName::LEN_MAX);
        assert!(name.starts_with(VETH_PREFIX));
        assert_eq!(name, veth_name(&bridge("hypercore0"), id(1)));
        assert_ne!(name, veth_name(&bridge("hypercore0"), id(2)));
        assert_ne!(name, veth_name(&bridge("hypercore1"), id(1)));
    }

    #[test]
    fn an_attachment_survives_its_file() {
        let attachment = Attachment {
            ports: vec![PublishedPort {
                host: NonZeroU16::new(8080).unwrap(),
                container: NonZeroU16::new(80).unwrap(),
                protocol: PortProtocol::Tcp,
            }],
            address6: Some(Ipv6Addr::LOCALHOST),
            tenant: "acme".parse().unwrap(),
            allow: BTreeSet::from([Allowance::Host]),
            group: 0x1234_0001,
            ..Attachment::example(WorkloadId::from_entropy([3; 16]))
        };
        let text = serde_json::to_string(&attachment).unwrap();
        assert_eq!(serde_json::from_str::<Attachment>(&text).unwrap(), attachment);
    }

    #[test]
    fn a_file_from_before_there_were_tenants_is_read() {
        let id = WorkloadId::from_entropy([3; 16]);
        let text = format!(
            r#"{{"id":"{id}","netns":"/run/hypercore/netns/x","address":"10.0.0.2","prefix_len":24,
                "gateway":"10.0.0.1","ports":[{{"host":8080,"container":80,"protocol":"tcp"}}]}}"#
        );
        let read: Attachment = serde_json::from_str(&text).unwrap();
        assert_eq!(Attachment { ports: vec![], ..read.clone() }, Attachment::example(id));
        assert!(read.satisfies(&AttachmentRequest {
            ports: vec!["8080:80".parse().unwrap()],
            ..AttachmentRequest::default()
        }));
    }

    #[test]
    fn a_port_satisfies_what_it_was_chosen_for() {
        let port = |text: &str| text.parse::<PortMapping>().unwrap();
        let published = PublishedPort {
            host: NonZeroU16::new(8080).unwrap(),
            container: NonZeroU16::new(80).unwrap(),
            protocol: PortProtocol::Tcp,
        };
        assert!(published.satisfies(&port("8080:80")));
        assert!(published.satisfies(&port("80")));
        assert!(!published.satisfies(&port("8081:80")));
        assert!(!published.satisfies(&port("80/udp")));
    }
}
