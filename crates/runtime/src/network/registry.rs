//! Which workload has which address, group and ports, and what is being done to it. In memory; restored from
//! attachments. It refuses to touch links and rules: it only decides.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    num::NonZeroU16,
    path::{Path, PathBuf},
};

use hypercore_model::{PortMapping, PortProtocol, TenantName, WorkloadId};

use super::{
    address::WorkloadSubnet,
    attachment::{Attachment, AttachmentRequest, PublishedPort, netns_path},
    group::NodeTag,
    pool::AddressPool,
    port::{Family, HeldPort, PortHolder, hold, holder_of},
    prefix::WorkloadPrefix,
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
    /// Every number that tells a tenant is taken.
    #[error("no more tenants fit on this node: {0} have workloads here")]
    TenantsFull(usize),
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
    prefix: Option<WorkloadPrefix>,
    tag: NodeTag,
    netns_directory: PathBuf,
    pool: AddressPool,
    slots: BTreeMap<WorkloadId, Slot>,
}

impl Registry {
    pub(super) fn new(
        subnet: WorkloadSubnet,
        prefix: Option<WorkloadPrefix>,
        tag: NodeTag,
        netns_directory: &Path,
    ) -> Self {
        let (pool, netns_directory) = (AddressPool::new(subnet), netns_directory.to_owned());
        Self { subnet, prefix, tag, netns_directory, pool, slots: BTreeMap::new() }
    }

    /// Takes an attachment from before a restart; `None` when its address isn't free in this subnet. Ports that
    /// somebody took meanwhile are returned: the rules still lead them to the workload.
    pub(super) fn restore(&mut self, mut attachment: Attachment) -> Option<Vec<PublishedPort>> {
        let is_known = self.slots.contains_key(&attachment.id);
        let fits = attachment.prefix_len == self.subnet.prefix_len();
        let group = self.restored_group(&attachment).filter(|_| fits && !is_known)?;
        if !self.pool.restore(attachment.address) {
            return None;
        }
        attachment.group = group;
        // What is outside of today's prefix would never be answered.
        let today = self.prefix.map(|prefix| prefix.address_of(attachment.address));
        attachment.address6 = attachment.address6.filter(|address| Some(*address) == today);
        let (mut held, mut lost) = (Vec::new(), Vec::new());
        for port in &attachment.ports {
            match hold(self.family(), Some(port.host), port.protocol) {
                Ok(port) => held.push(port),
                Err(_) => lost.push(*port),
            }
        }
        self.slots.insert(attachment.id, Slot { attachment, phase: Phase::Attached, _held: held });
        Some(lost)
    }

    /// The group that an attachment has, unless that isn't this node's or means another tenant here.
    fn restored_group(&self, attachment: &Attachment) -> Option<u32> {
        let is_other =
            |known: &Attachment| known.group == attachment.group && known.tenant != attachment.tenant;
        let is_right =
            self.tag.owns(attachment.group) && !self.slots.values().any(|slot| is_other(&slot.attachment));
        if is_right { Some(attachment.group) } else { self.group_of(&attachment.tenant) }
    }

    /// The group of a tenant's links; a free one for a tenant without any.
    fn group_of(&self, tenant: &TenantName) -> Option<u32> {
        let mut attachments = self.slots.values().map(|slot| &slot.attachment);
        if let Some(same) = attachments.find(|known| known.tenant == *tenant) {
            return Some(same.group);
        }
        let taken: BTreeSet<u32> = self.slots.values().map(|slot| slot.attachment.group).collect();
        self.tag.free_group(&taken)
    }

    const fn family(&self) -> Family {
        if self.prefix.is_some() { Family::Both } else { Family::V4 }
    }

    /// The workload's attachment, when it is complete and what is asked for.
    pub(super) fn attached(&self, id: WorkloadId, request: &AttachmentRequest) -> Option<&Attachment> {
        let slot = self.slots.get(&id).filter(|slot| slot.phase == Phase::Attached)?;
        slot.attachment.satisfies(request).then_some(&slot.attachment)
    }

    /// Reserves an address, a group and host ports; the caller works on them until [`Self::settle`].
    pub(super) fn claim(
        &mut self,
        id: WorkloadId,
        request: &AttachmentRequest,
    ) -> Result<Attachment, ClaimError> {
        if self.slots.contains_key(&id) {
            return Err(ClaimError::Busy(id));
        }
        let group = self.group_of(&request.tenant).ok_or(ClaimError::TenantsFull(self.slots.len()))?;
        let (ports, held) = self.claim_ports(&request.ports)?;
        let address = self.pool.take().ok_or(ClaimError::SubnetFull(self.subnet))?;
        let attachment = Attachment {
            id,
            netns: netns_path(&self.netns_directory, id),
            address,
            prefix_len: self.subnet.prefix_len(),
            gateway: self.subnet.gateway(),
            ports,
            address6: self.prefix.map(|prefix| prefix.address_of(address)),
            tenant: request.tenant.clone(),
            allow: request.allow.clone(),
            group,
            is_machine: request.is_machine,
            bytes_per_s: request.bytes_per_s,
            gateway6: self
                .prefix
                .map(|prefix| (prefix.address_of(self.subnet.gateway()), prefix.prefix_len())),
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
        hold(self.family(), mapping.host, protocol).map_err(|source| match mapping.host {
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

    /// Every workload whose attaching or detaching was given up half way.
    pub(super) fn incomplete(&self) -> Vec<WorkloadId> {
        let is_incomplete = |slot: &&Slot| slot.phase == Phase::Incomplete;
        self.slots.values().filter(is_incomplete).map(|slot| slot.attachment.id).collect()
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
        let tag = NodeTag::of(&"hypercore0".parse().unwrap());
        Registry::new("10.0.0.0/29".parse().unwrap(), None, tag, Path::new("/run/x"))
    }

    fn ports(texts: &[&str]) -> AttachmentRequest {
        let ports = texts.iter().map(|text| text.parse().unwrap()).collect();
        AttachmentRequest { ports, ..AttachmentRequest::default() }
    }

    fn of_tenant(tenant: &str) -> AttachmentRequest {
        AttachmentRequest { tenant: tenant.parse().unwrap(), ..AttachmentRequest::default() }
    }

    #[test]
    fn a_free_port_is_chosen_and_a_taken_one_names_its_workload() {
        let mut registry = registry();
        let first = registry.claim(id(1), &ports(&["80", "53/udp"])).unwrap();
        assert_eq!(first.netns, Path::new("/run/x").join(id(1).to_string()));
        let host = first.ports[0].host;
        let error = registry.claim(id(2), &ports(&[&format!("{host}:80")])).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("port {host}/tcp is already used by workload {}", id(1).short())
        );
        assert_eq!(registry.ids(), [id(1)]);
        registry.settle(id(1), Outcome::Released);
        assert!(registry.claim(id(2), &ports(&[&format!("{host}:80")])).is_ok());
    }

    #[test]
    fn what_is_being_worked_on_is_busy_and_what_was_given_up_is_not() {
        let mut registry = registry();
        registry.claim(id(1), &ports(&[])).unwrap();
        assert!(matches!(registry.claim(id(1), &ports(&[])), Err(ClaimError::Busy(_))));
        assert!(matches!(registry.begin_release(id(1)), Err(ClaimError::Busy(_))));
        registry.settle(id(1), Outcome::GivenUp);
        assert!(registry.attached(id(1), &ports(&[])).is_none());
        assert!(registry.begin_release(id(1)).unwrap().is_some());
        assert!(registry.begin_release(id(2)).unwrap().is_none());
    }

    #[test]
    fn an_attachment_is_found_again_only_with_the_same_ports() {
        let mut registry = registry();
        registry.claim(id(1), &ports(&["80"])).unwrap();
        assert!(registry.attached(id(1), &ports(&["80"])).is_none());
        registry.settle(id(1), Outcome::Attached);
        assert!(registry.attached(id(1), &ports(&["80"])).is_some());
        assert!(registry.attached(id(1), &ports(&["81"])).is_none());
        assert!(registry.attached(id(1), &ports(&[])).is_none());
    }

    #[test]
    fn a_full_subnet_says_so_and_gives_the_ports_back() {
        let mut registry = registry();
        (0..5).for_each(|n| drop(registry.claim(id(n), &ports(&[])).unwrap()));
        let port = hold(Family::V4, None, PortProtocol::Tcp).unwrap().number;
        let error = registry.claim(id(9), &ports(&[&format!("{port}:80")])).unwrap_err();
        assert_eq!(error.to_string(), "the subnet 10.0.0.0/29 is full");
        assert!(hold(Family::V4, Some(port), PortProtocol::Tcp).is_ok());
    }

    #[test]
    fn a_restored_attachment_keeps_its_address_and_its_ports() {
        let mut before = registry();
        let attachment = before.claim(id(1), &ports(&["80"])).unwrap();
        drop(before);
        let mut registry = registry();
        assert_eq!(registry.restore(attachment.clone()), Some(vec![]));
        assert_eq!(registry.restore(attachment.clone()), None);
        assert_eq!(registry.attached(id(1), &ports(&["80"])), Some(&attachment));
        let taken = registry.claim(id(2), &ports(&[&format!("{}:80", attachment.ports[0].host)]));
        assert!(matches!(taken, Err(ClaimError::PortTaken { by: PortHolder::Workload(_), .. })));
        assert_ne!(registry.claim(id(2), &ports(&[])).unwrap().address, attachment.address);
    }

    #[test]
    fn workloads_of_one_tenant_share_a_group_and_others_do_not() {
        let mut registry = registry();
        let group = |registry: &mut Registry, byte, tenant| {
            registry.claim(id(byte), &of_tenant(tenant)).unwrap().group
        };
        let one = group(&mut registry, 1, "one");
        assert_eq!(group(&mut registry, 2, "one"), one);
        assert_ne!(group(&mut registry, 3, "other"), one);
    }

    #[test]
    fn a_restored_group_stays_unless_it_would_mean_another_tenant() {
        let mut before = registry();
        let one = before.claim(id(1), &of_tenant("one")).unwrap();
        let other = before.claim(id(2), &of_tenant("other")).unwrap();
        let mut registry = registry();
        registry.restore(other.clone()).unwrap();
        assert_eq!(registry.claim(id(3), &of_tenant("third")).unwrap().group, one.group);
        registry.restore(Attachment { address: "10.0.0.6".parse().unwrap(), ..one }).unwrap();
        let groups: BTreeSet<u32> = registry.attachments().into_iter().map(|known| known.group).collect();
        assert_eq!(groups.len(), 3, "one tenant each");
        assert!(
            registry.attached(id(2), &of_tenant("other")).is_some_and(|known| known.group == other.group)
        );
    }

    #[test]
    fn a_restored_address_of_another_prefix_is_forgotten() {
        let mut before = registry();
        before.prefix = Some(WorkloadPrefix::derived(b"before"));
        let attachment = before.claim(id(1), &ports(&[])).unwrap();
        assert!(attachment.address6.is_some());
        let mut registry = registry();
        registry.prefix = Some(WorkloadPrefix::derived(b"now"));
        registry.restore(attachment).unwrap();
        assert_eq!(registry.attachments()[0].address6, None);
    }
}
