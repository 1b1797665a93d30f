//! The work on one workload's attachment: what the short-lived thread does, and the guard that keeps everybody else
//! away from that workload until the last part of it has ended, even when the caller stopped waiting.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use hypercore_model::WorkloadId;
use tokio::sync::OwnedRwLockReadGuard;

use super::{
    attachment::Attachment,
    error::{AttachError, DetachError},
    firewall::Firewall,
    link::{self, LinkError},
    namespace,
    netlink::Netlink,
    registry::{Outcome, Registry},
    veth::Veth,
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
    pub(super) veth: Veth,
    pub(super) firewall: Arc<Firewall>,
    pub(super) attachment: Attachment,
}

impl Plan {
    /// Makes namespace, link, addresses and routes, and tells the firewall. Leaves the calling thread inside the
    /// namespace.
    pub(super) fn connect(&self) -> Result<(), AttachError> {
        // Before the link is: packets must not meet a firewall that doesn't know whose they are.
        self.firewall.admit(&self.attachment)?;
        // Opened before the thread leaves the host's namespace, so it keeps talking to that one.
        let mut host = Netlink::open().map_err(LinkError::Socket)?;
        let is_machine = self.veth.create_for_machine(&mut host)?;
        let netns = namespace::enter_new(&self.attachment.netns, self.attachment.address6.is_some())?;
        if is_machine {
            return Ok(());
        }
        let mut inside = Netlink::open().map_err(LinkError::Socket)?;
        self.veth.create(&mut host, &netns)?;
        Ok(self.veth.configure_inside(&mut inside)?)
    }

    /// Takes firewall's elements, link and namespace away, whatever of them exists.
    pub(super) fn disconnect(&self) -> Result<(), DetachError> {
        let mut host = Netlink::open().map_err(LinkError::Socket)?;
        link::remove(&mut host, self.veth.name())?;
        // After the link: nobody else gets the address or the ports before this has succeeded.
        self.firewall.expel(&self.attachment)?;
        Ok(namespace::remove(&self.attachment.netns)?)
    }
}
