//! The network of one node's workloads: a namespace and a link of its own per workload, routes, one nft table.
//!
//! ```text
//!   netns <id>                        host                                              outside
//!   eth0 172.16.0.2  ====veth====  hc1f3a...  --+-- routes, nft table --+-- masquerade -- uplink
//!        fd..::ac10:2              group: tenant   who may talk to whom   published ports
//!                                  bridge hypercore0: 172.16.0.1, fd..::ac10:1 (no ports)
//! ```
//! Workloads are routed, not bridged: what one sends reaches the host's firewall and nobody else (decision 0036).
//! Everything in the kernel is named after the bridge or the workload, so that any of it can be found again after a
//! crash. It refuses to decide what should be attached, to change other tables or interfaces, and to reset the
//! settings of forwarding, which others may have come to rely on.
//!
//! Published ports stand on all of the host's addresses, 127.0.0.1 included. Known limits: not on `::1`, which Linux
//! doesn't translate, and a UDP flow that was under way before its port was published keeps its old way until it has
//! been silent for 30 seconds.

mod address;
mod attaching;
mod attachment;
mod bridge;
mod element;
mod error;
mod firewall;
mod group;
mod host;
mod hosts;
mod link;
mod namespace;
mod netlink;
mod nftables;
mod pool;
mod port;
mod prefix;
mod registry;
mod sweep;
mod tap;
mod traffic;
mod veth;
mod work;

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use hypercore_model::WorkloadId;
use tokio::sync::{OwnedRwLockReadGuard, RwLock};

pub use address::{BridgeName, BridgeNameError, SubnetError, WorkloadSubnet};
pub use attaching::Attaching;
pub use attachment::{Attachment, AttachmentRequest, PublishedPort};
pub use error::{AttachError, CloseError, DetachError, OpenError};
pub use firewall::FirewallError;
pub use host::has_ipv6;
pub use hosts::{HostsError, HostsFiles, write_hosts_files};
pub use link::LinkError;
pub use namespace::NamespaceError;
pub use port::PortHolder;
pub use prefix::{PrefixError, WorkloadPrefix};
pub use registry::ClaimError;
pub use sweep::{SweepError, Swept};
pub use traffic::Traffic;

use firewall::Firewall;
use group::NodeTag;
use namespace::on_own_thread;
use netlink::Netlink;
use nftables::Nftables;
use registry::{Outcome, Registry};
use veth::Veth;
use work::{Plan, Work};

/// What a node's network is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Name of the bridge and of the nft table; one node's alone.
    pub bridge: BridgeName,
    /// The workloads' subnet; one node's alone.
    pub subnet: WorkloadSubnet,
    /// The workloads' IPv6 prefix; one node's alone. `None` gives them no IPv6.
    pub prefix: Option<WorkloadPrefix>,
    /// Where the namespaces' files are kept; made if missing. One node's alone.
    pub netns_directory: PathBuf,
}

/// One node's network. Calls for different workloads run side by side; calls for the same one are refused as busy.
#[derive(Debug)]
pub struct Network {
    config: NetworkConfig,
    mtu: u32,
    firewall: Arc<Firewall>,
    registry: Arc<Mutex<Registry>>,
    /// Read while a workload is worked on, written while sweeping: else a sweep would take new links for leftovers.
    sweeping: Arc<RwLock<()>>,
}

impl Network {
    /// The host's end of a workload's link.
    #[must_use]
    pub fn link_name(&self, id: WorkloadId) -> String {
        attachment::veth_name(&self.config.bridge, id)
    }

    /// Makes the bridge, the settings and the nft table, or takes over what an earlier run of the same node left.
    /// `restored` are the attachments of workloads that still exist. Idempotent; their traffic is never interrupted.
    ///
    /// # Errors
    /// [`OpenError`], by step; a user mistake (a taken bridge name or subnet, a missing package) says what to change.
    pub async fn open(config: NetworkConfig, restored: Vec<Attachment>) -> Result<Self, OpenError> {
        fs::create_dir_all(&config.netns_directory)
            .map_err(|source| OpenError::Directory { path: config.netns_directory.clone(), source })?;
        let tag = NodeTag::of(&config.bridge);
        let mut registry = Registry::new(config.subnet, config.prefix, tag, &config.netns_directory);
        for attachment in restored {
            restore(&mut registry, attachment, config.subnet)?;
        }
        let attachments = registry.attachments();
        let (for_thread, on_thread) = (config.clone(), attachments.clone());
        let mtu = on_own_thread(move || host::prepare(&for_thread, &on_thread)).await?;
        let nftables = Nftables::open().map_err(|source| FirewallError::Socket(Arc::new(source)))?;
        let firewall = Firewall::new(config.bridge.clone(), config.subnet, config.prefix, nftables);
        let firewall = Arc::new(firewall);
        firewall.install(&attachments).await?;
        for chain in firewall::dropping_chains(&config.bridge).await? {
            tracing::warn!(
                bridge = %config.bridge, chain,
                "another firewall drops forwarded packets by default: workloads may not reach the outside until it \
                 accepts what comes from and goes to the interfaces hc*"
            );
        }
        let registry = Arc::new(Mutex::new(registry));
        Ok(Self { config, mtu, firewall, registry, sweeping: Arc::default() })
    }

    /// Gives a workload its namespace, addresses, routes and published ports. A workload that already has all of that
    /// keeps it; a half-made or dead attachment is replaced.
    ///
    /// # Errors
    /// [`AttachError`]; [`ClaimError::PortTaken`] names the holder.
    pub async fn attach(
        &self,
        id: WorkloadId,
        request: &AttachmentRequest,
    ) -> Result<Attachment, AttachError> {
        self.begin_attach(id, request).await?.finish().await
    }

    /// As [`Self::attach`], but returns as soon as it is known what the workload will have. The rest goes on meanwhile.
    ///
    /// # Errors
    /// [`AttachError::Claim`], or what keeps an earlier attachment from being taken down.
    pub async fn begin_attach(
        &self,
        id: WorkloadId,
        request: &AttachmentRequest,
    ) -> Result<Attaching<'_>, AttachError> {
        let existing = self.registry().attached(id, request).cloned();
        if let Some(attachment) = existing.filter(|attachment| namespace::is_alive(&attachment.netns)) {
            return Ok(Attaching::done_before(self, attachment));
        }
        self.detach(id).await?;
        let no_sweep = self.sweeping.clone().read_owned().await;
        let attachment = self.registry().claim(id, request)?;
        let work = self.work_on(id, Some(no_sweep));
        let (plan, held) = (self.plan(&attachment), work.clone());
        let connecting = on_own_thread(move || {
            let _held = held;
            plan.connect()
        });
        Ok(Attaching::begun(self, attachment, Box::pin(connecting), work))
    }

    /// Takes a workload's ports, links and namespace away and frees its address. Idempotent.
    ///
    /// # Errors
    /// [`DetachError`], by step.
    pub async fn detach(&self, id: WorkloadId) -> Result<(), DetachError> {
        let no_sweep = self.sweeping.clone().read_owned().await;
        self.take_down(id, Some(no_sweep)).await
    }

    async fn take_down(
        &self,
        id: WorkloadId,
        no_sweep: Option<OwnedRwLockReadGuard<()>>,
    ) -> Result<(), DetachError> {
        let Some(attachment) = self.registry().begin_release(id)? else { return Ok(()) };
        let work = self.work_on(id, no_sweep);
        let (plan, held) = (self.plan(&attachment), work.clone());
        let disconnect = move || {
            let _held = held;
            plan.disconnect()
        };
        on_own_thread(disconnect).await?;
        work.end(Outcome::Released);
        Ok(())
    }

    /// Removes the nft table and the bridge, for a node without workloads.
    ///
    /// # Errors
    /// [`CloseError::InUse`] while any workload is attached; then nothing was removed.
    pub async fn close(&self) -> Result<(), CloseError> {
        let ids = self.registry().ids();
        if !ids.is_empty() {
            return Err(CloseError::InUse(ids));
        }
        let bridge = self.config.bridge.clone();
        on_own_thread(move || -> Result<(), CloseError> {
            let mut netlink = Netlink::open().map_err(LinkError::Socket)?;
            Ok(link::remove(&mut netlink, bridge.as_str())?)
        })
        .await?;
        Ok(self.firewall.remove().await?)
    }

    fn work_on(&self, id: WorkloadId, no_sweep: Option<OwnedRwLockReadGuard<()>>) -> Arc<Work> {
        let (registry, outcome) = (self.registry.clone(), OnceLock::new());
        Arc::new(Work { registry, id, outcome, _no_sweep: no_sweep })
    }

    fn plan(&self, attachment: &Attachment) -> Plan {
        let NetworkConfig { bridge, subnet, prefix, .. } = &self.config;
        Plan {
            veth: Veth::new(bridge, self.mtu, *subnet, *prefix, attachment),
            firewall: self.firewall.clone(),
            attachment: attachment.clone(),
        }
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        // Each change of the registry is complete before anything can panic, so a poisoned one is still right.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn restore(registry: &mut Registry, attachment: Attachment, subnet: WorkloadSubnet) -> Result<(), OpenError> {
    let (id, address) = (attachment.id, format!("{}/{}", attachment.address, attachment.prefix_len));
    let lost = registry.restore(attachment).ok_or(OpenError::Restore { id, address, subnet })?;
    for taken in lost {
        let by = port::holder_of(taken.host, taken.protocol);
        tracing::warn!(%id, port = %taken.host, %by, "a published port was bound by somebody else meanwhile");
    }
    Ok(())
}
