//! The work on one workload's attachment: what the short-lived thread does, and the guard that keeps everybody else
//! away from that workload until the last part of it has ended, even when the caller stopped waiting.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use hypercore_model::WorkloadId;
use tokio::sync::OwnedRwLockReadGuard;

use super::{
    address::WorkloadSubnet,
    attachment::Attachment,
    error::{AttachError, DetachError},
    link::{self, LinkError, VethPair},
    namespace,
    netlink::Netlink,
    registry::{Outcome, Registry},
};

/// Shared by the caller and its thread. When the last of them lets go, the registry learns the outcome: given up,
/// unless [`Self::end`] said otherwise.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) registry: Arc<Mutex<Registry>>,
    pub(super) id: WorkloadId,
    pub(super) outcome: OnceLock<Outcome>,
    /// Keeps a sweep away; `None` when the work is part of one.
    pub(super) _no_sweep: Option<OwnedRwLockReadGuard<()>>,
}

impl Work {
    pub(super) fn end(&self, outcome: Outcome) {
        self.outcome.get_or_init(|| outcome);
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let outcome = self.outcome.get().copied().unwrap_or(Outcome::GivenUp);
        // Each change of the registry is complete before anything can panic, so a poisoned one is still right.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner).settle(self.id, outcome);
    }
}

/// Everything the thread that connects or disconnects a workload needs to know.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) veth: String,
    pub(super) bridge_index: u32,
    pub(super) mtu: u32,
    pub(super) subnet: WorkloadSubnet,
    pub(super) attachment: Attachment,
}

impl Plan {
    /// Makes namespace, veth pair, address and route. Leaves the calling thread inside the namespace.
    pub(super) fn connect(&self) -> Result<(), AttachError> {
        // Opened before the thread leaves the host's namespace, so it keeps talking to that one.
        let mut host = Netlink::open().map_err(LinkError::Socket)?;
        let netns = namespace::enter_new(&self.attachment.netns)?;
        let mut inside = Netlink::open().map_err(LinkError::Socket)?;
        let (name, address) = (self.veth.as_str(), self.attachment.address);
        let pair = VethPair { name, bridge_index: self.bridge_index, mtu: self.mtu, address };
        link::create_veth(&mut host, &pair, &netns)?;
        Ok(link::configure_inside(&mut inside, address, self.subnet)?)
    }

    /// Removes the veth pair and the namespace, whatever of them exists.
    pub(super) fn disconnect(&self) -> Result<(), DetachError> {
        let mut host = Netlink::open().map_err(LinkError::Socket)?;
        link::remove(&mut host, &self.veth)?;
        Ok(namespace::remove(&self.attachment.netns)?)
    }
}
