//! Which workload has which address and which ports, and what is being done to it. In memory; restored from
//! attachments. It refuses to touch links and rules: it only decides.

use std::{
    collections::BTreeMap,
    io,
    num::NonZeroU16,
    path::{Path, PathBuf},
};

use hypercore_model::{PortMapping, PortProtocol, WorkloadId};

use super::{
    address::WorkloadSubnet,
    attachment::{Attachment, PublishedPort, netns_path},
    pool::AddressPool,
    port::{HeldPort, PortHolder, hold, holder_of},
};

/// Why a workload can't have its address or ports.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Another call is attaching or detaching the same workload right now.
    #[error("workload {0} is being attached or detached by another call")]
    Busy(WorkloadId),
    /// Every address of the subnet is taken.
    #[error("the subnet {0} is full")]
    SubnetFull(WorkloadSubnet),
    /// A host port is taken.
    #[error("port {port}/{} is already used by {by}", .protocol.as_str())]
    PortTaken {
        /// The host port.
        port: NonZeroU16,
        /// TCP or UDP.
        protocol: PortProtocol,
        /// Who has it.
        by: PortHolder,
    },
    /// A host port can't be bound for another reason, or no port is free.
    #[error("can't take a {} port on the host", .protocol.as_str())]
    Port {
        /// TCP or UDP.
        protocol: PortProtocol,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What is being done to a workload's attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A call is at work on it.
    Working,
    /// A call gave up half way: only detaching helps.
    Incomplete,
    /// It is as its attachment says.
    Attached,
}

/// How the work on an attachment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Complete.
    Attached,
    /// Taken down: nothing of it is left.
    Released,
    /// Neither.
    GivenUp,
}

#[derive(Debug)]
struct Slot {
    attachment: Attachment,
    phase: Phase,
    _held: Vec<HeldPort>,
}

/// The attachments of one node.
#[derive(Debug)]
pub(super) struct Registry {
    subnet: WorkloadSubnet,
    netns_directory: PathBuf,
    pool: AddressPool,
    slots: BTreeMap<WorkloadId, Slot>,
}

impl Registry {
    pub(super) fn new(subnet: WorkloadSubnet, netns_directory: &Path) -> Self {
        let pool = AddressPool::new(subnet);
        Self { subnet, netns_directory: netns_directory.to_owned(), pool, slots: BTreeMap::new() }
    }

    /// Takes an attachment from before a restart; false when its address isn't free in this subnet. Ports that
    /// somebody took meanwhile are returned: the rules still lead them to the workload.
    pub(super) fn restore(&mut self, attachment: Attachment) -> Option<Vec<PublishedPort>> {
        let is_known = self.slots.contains_key(&attachment.id);
        if is_known
            || attachment.prefix_len != self.subnet.prefix_len()
            || !self.pool.restore(attachment.address)
        {
            return None;
        }
        let (mut held, mut lost) = (Vec::new(), Vec::new());
        for port in &attachment.ports {
            match hold(Some(port.host), port.protocol) {
                Ok(port) => held.push(port),
                Err(_) => lost.push(*port),
            }
        }
        self.slots.insert(attachment.id, Slot { attachment, phase: Phase::Attached, _held: held });
        Some(lost)
    }

    /// The workload's attachment, when it is complete and has these ports.
    pub(super) fn attached(&self, id: WorkloadId, mappings: &[PortMapping]) -> Option<&Attachment> {
        let slot = self.slots.get(&id).filter(|slot| slot.phase == Phase::Attached)?;
        let ports = &slot.attachment.ports;
        let is_same =
            ports.len() == mappings.len() && ports.iter().zip(mappings).all(|(port, m)| port.satisfies(m));
        is_same.then_some(&slot.attachment)
    }

    /// Reserves an address and host ports; the caller works on them until [`Self::settle`].
    pub(super) fn claim(
        &mut self,
        id: WorkloadId,
        mappings: &[PortMapping],
    ) -> Result<Attachment, ClaimError> {
        if self.slots.contains_key(&id) {
            return Err(ClaimError::Busy(id));
        }
        let (ports, held) = self.claim_ports(mappings)?;
        let address = self.pool.take().ok_or(ClaimError::SubnetFull(self.subnet))?;
        let attachment = Attachment {
            id,
            netns: netns_path(&self.netns_directory, id),
            address,
            prefix_len: self.subnet.prefix_len(),
            gateway: self.subnet.gateway(),
            ports,
        };
        self.slots.insert(id, Slot { attachment: attachment.clone(), phase: Phase::Working, _held: held });
        Ok(attachment)
    }

    fn claim_ports(
        &self,
        mappings: &[PortMapping],
    ) -> Result<(Vec<PublishedPort>, Vec<HeldPort>), ClaimError> {
        let (mut ports, mut held) = (Vec::new(), Vec::new());
        for mapping in mappings {
            let protocol = mapping.protocol;
            let port = self.claim_port(mapping)?;
            ports.push(PublishedPort { host: port.number, container: mapping.container, protocol });
            held.push(port);
        }
        Ok((ports, held))
    }

    fn claim_port(&self, mapping: &PortMapping) -> Result<HeldPort, ClaimError> {
        let protocol = mapping.protocol;
        let taken = |port, by| ClaimError::PortTaken { port, protocol, by };
        if let Some((port, id)) = mapping.host.and_then(|port| Some((port, self.owner_of(port, protocol)?))) {
            return Err(taken(port, PortHolder::Workload(id)));
        }
        hold(mapping.host, protocol).map_err(|source| match mapping.host {
            Some(port) if source.kind() == io::ErrorKind::AddrInUse => taken(port, holder_of(port, protocol)),
            _ => ClaimError::Port { protocol, source },
        })
    }

    fn owner_of(&self, port: NonZeroU16, protocol: PortProtocol) -> Option<WorkloadId> {
        let has_port = |slot: &&Slot| {
            slot.attachment.ports.iter().any(|taken| taken.host == port && taken.protocol == protocol)
        };
        self.slots.values().find(has_port).map(|slot| slot.attachment.id)
    }

    /// Begins to take a workload's attachment down; `None` when there is none.
    pub(super) fn begin_release(&mut self, id: WorkloadId) -> Result<Option<Attachment>, ClaimError> {
        match self.slots.get_mut(&id) {
            None => Ok(None),
            Some(slot) if slot.phase == Phase::Working => Err(ClaimError::Busy(id)),
            Some(slot) => {
                slot.phase = Phase::Working;
                Ok(Some(slot.attachment.clone()))
            }
        }
    }

    /// Ends the work on a slot. A released one gives its address and ports back.
    pub(super) fn settle(&mut self, id: WorkloadId, outcome: Outcome) {
        match outcome {
            Outcome::Attached | Outcome::GivenUp => {
                if let Some(slot) = self.slots.get_mut(&id) {
                    slot.phase =
                        if outcome == Outcome::Attached { Phase::Attached } else { Phase::Incomplete };
                }
            }
            Outcome::Released => {
                if let Some(slot) = self.slots.remove(&id) {
                    self.pool.free(slot.attachment.address);
                }
            }
        }
    }

    /// Every workload that has an address.
    pub(super) fn ids(&self) -> Vec<WorkloadId> {
        self.slots.keys().copied().collect()
    }

    /// Every attachment, also those being worked on.
    pub(super) fn attachments(&self) -> Vec<Attachment> {
        self.slots.values().map(|slot| slot.attachment.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> WorkloadId {
        WorkloadId::from_bytes([byte; 16])
    }

    fn registry() -> Registry {
        Registry::new("10.0.0.0/29".parse().unwrap(), Path::new("/run/x"))
    }

    fn mapping(text: &str) -> PortMapping {
        text.parse().unwrap()
    }

    #[test]
    fn a_free_port_is_chosen_and_a_taken_one_names_its_workload() {
        let mut registry = registry();
        let first = registry.claim(id(1), &[mapping("80"), mapping("53/udp")]).unwrap();
        assert_eq!(first.netns, Path::new("/run/x").join(id(1).to_string()));
        let host = first.ports[0].host;
        let error = registry.claim(id(2), &[mapping(&format!("{host}:80"))]).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("port {host}/tcp is already used by workload {}", id(1).short())
        );
        assert_eq!(registry.ids(), [id(1)]);
        registry.settle(id(1), Outcome::Released);
        assert!(registry.claim(id(2), &[mapping(&format!("{host}:80"))]).is_ok());
    }

    #[test]
    fn what_is_being_worked_on_is_busy_and_what_was_given_up_is_not() {
        let mut registry = registry();
        registry.claim(id(1), &[]).unwrap();
        assert!(matches!(registry.claim(id(1), &[]), Err(ClaimError::Busy(_))));
        assert!(matches!(registry.begin_release(id(1)), Err(ClaimError::Busy(_))));
        registry.settle(id(1), Outcome::GivenUp);
        assert!(registry.attached(id(1), &[]).is_none());
        assert!(registry.begin_release(id(1)).unwrap().is_some());
        assert!(registry.begin_release(id(2)).unwrap().is_none());
    }

    #[test]
    fn an_attachment_is_found_again_only_with_the_same_ports() {
        let mut registry = registry();
        registry.claim(id(1), &[mapping("80")]).unwrap();
        assert!(registry.attached(id(1), &[mapping("80")]).is_none());
        registry.settle(id(1), Outcome::Attached);
        assert!(registry.attached(id(1), &[mapping("80")]).is_some());
        assert!(registry.attached(id(1), &[mapping("81")]).is_none());
        assert!(registry.attached(id(1), &[]).is_none());
    }

    #[test]
    fn a_full_subnet_says_so_and_gives_the_ports_back() {
        let mut registry = registry();
        (0..5).for_each(|n| drop(registry.claim(id(n), &[]).unwrap()));
        let port = hold(None, PortProtocol::Tcp).unwrap().number;
        let error = registry.claim(id(9), &[mapping(&format!("{port}:80"))]).unwrap_err();
        assert_eq!(error.to_string(), "the subnet 10.0.0.0/29 is full");
        assert!(hold(Some(port), PortProtocol::Tcp).is_ok());
    }

    #[test]
    fn a_restored_attachment_keeps_its_address_and_its_ports() {
        let mut before = registry();
        let attachment = before.claim(id(1), &[mapping("80")]).unwrap();
        drop(before);
        let mut registry = registry();
        assert_eq!(registry.restore(attachment.clone()), Some(vec![]));
        assert_eq!(registry.restore(attachment.clone()), None);
        assert_eq!(registry.attached(id(1), &[mapping("80")]), Some(&attachment));
        let taken = registry.claim(id(2), &[mapping(&format!("{}:80", attachment.ports[0].host))]);
        assert!(matches!(taken, Err(ClaimError::PortTaken { by: PortHolder::Workload(_), .. })));
        assert_ne!(registry.claim(id(2), &[]).unwrap().address, attachment.address);
    }
}
