//! The network of one node's workloads: a bridge, a namespace and a veth pair per workload, one nft table.
//!
//! ```text
//!   netns <id>                      host                                       outside
//!   eth0 172.16.0.2  ====veth====  hc1f3a... -- bridge hypercore0 172.16.0.1 -- forward + masquerade -- uplink
//!                                                        nft: host port -> address . port, default deny
//! ```
//! Everything in the kernel is named after the bridge or the workload, so that any of it can be found again after a
//! crash. It refuses to decide what should be attached, to change other tables or interfaces, and to reset
//! `net.ipv4.ip_forward`, which others may have come to rely on.
//!
//! Published ports stand on all of the host's IPv4 addresses, 127.0.0.1 included. Known limits: no IPv6, and a UDP
//! flow that was under way before its port was published keeps its old way until it has been silent for 30 seconds.

mod address;
mod attachment;
mod error;
mod firewall;
mod hosts;
mod link;
mod namespace;
mod netlink;
mod pool;
mod port;
mod registry;
mod sweep;
mod work;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use hypercore_model::{PortMapping, WorkloadId};
use tokio::sync::{OwnedRwLockReadGuard, RwLock};

pub use address::{BridgeName, BridgeNameError, SubnetError, WorkloadSubnet};
pub use attachment::{Attachment, PublishedPort};
pub use error::{AttachError, CloseError, DetachError, OpenError};
pub use firewall::FirewallError;
pub use hosts::{HostsError, HostsFiles, write_hosts_files};
pub use link::LinkError;
pub use namespace::NamespaceError;
pub use port::PortHolder;
pub use registry::ClaimError;
pub use sweep::{SweepError, Swept};

use attachment::veth_name;
use firewall::Firewall;
use namespace::on_own_thread;
use netlink::Netlink;
use registry::{Outcome, Registry};
use work::{Plan, Work};

/// What a node's network is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Name of the bridge and of the nft table; one node's alone.
    pub bridge: BridgeName,
    /// The workloads' subnet; one node's alone.
    pub subnet: WorkloadSubnet,
    /// Where the namespaces' files are kept; made if missing. One node's alone.
    pub netns_directory: PathBuf,
}

/// One node's network. Calls for different workloads run side by side; calls for the same one are refused as busy.
#[derive(Debug)]
pub struct Network {
    config: NetworkConfig,
    bridge_index: u32,
    mtu: u32,
    firewall: Firewall,
    registry: Arc<Mutex<Registry>>,
    /// Read while a workload is worked on, written while sweeping: else a sweep would take new links for leftovers.
    sweeping: Arc<RwLock<()>>,
}

impl Network {
    /// Makes the bridge, the settings and the nft table, or takes over what an earlier run of the same node left.
    /// `restored` are the attachments of workloads that still exist. Idempotent; their traffic is never interrupted.
    ///
    /// # Errors
    /// [`OpenError`], by step; a user mistake (a taken bridge name or subnet, a missing package) says what to change.
    pub async fn open(config: NetworkConfig, restored: Vec<Attachment>) -> Result<Self, OpenError> {
        fs::create_dir_all(&config.netns_directory)
            .map_err(|source| OpenError::Directory { path: config.netns_directory.clone(), source })?;
        let mut registry = Registry::new(config.subnet, &config.netns_directory);
        for attachment in restored {
            restore(&mut registry, attachment, config.subnet)?;
        }
        let ids = registry.ids();
        let for_thread = config.clone();
        let (bridge_index, mtu) = on_own_thread(move || prepare_host(&for_thread, &ids)).await?;
        let firewall = Firewall::new(config.bridge.clone(), config.subnet);
        firewall.install(&registry.attachments()).await?;
        for chain in firewall::dropping_chains(&config.bridge).await? {
            tracing::warn!(
                bridge = %config.bridge, chain,
                "another firewall drops forwarded packets by default: workloads may not reach the outside until it \
                 accepts what comes from and goes to the bridge"
            );
        }
        let registry = Arc::new(Mutex::new(registry));
        Ok(Self { config, bridge_index, mtu, firewall, registry, sweeping: Arc::default() })
    }

    /// Gives a workload its namespace, address, route and published ports. A workload that already has all of that
    /// keeps it; a half-made or dead attachment is replaced.
    ///
    /// # Errors
    /// [`AttachError`]; [`ClaimError::PortTaken`] names the holder.
    pub async fn attach(&self, id: WorkloadId, ports: &[PortMapping]) -> Result<Attachment, AttachError> {
        let existing = self.registry().attached(id, ports).cloned();
        if let Some(attachment) = existing.filter(|attachment| namespace::is_alive(&attachment.netns)) {
            return Ok(attachment);
        }
        self.detach(id).await?;
        let no_sweep = self.sweeping.clone().read_owned().await;
        let attachment = self.registry().claim(id, ports)?;
        let work = self.work_on(id, Some(no_sweep));
        let (plan, held) = (self.plan(&attachment), work.clone());
        let connect = move || {
            let _held = held;
            plan.connect()
        };
        let (connected, published) = tokio::join!(on_own_thread(connect), self.firewall.publish(&attachment));
        if let Err(error) = connected.and_then(|()| Ok(published?)) {
            drop(work);
            if let Err(source) = self.detach(id).await {
                tracing::warn!(%id, error = %source, "can't undo a failed attachment; it stays reserved");
            }
            return Err(error);
        }
        work.end(Outcome::Attached);
        Ok(attachment)
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
        let (withdrawn, removed) =
            tokio::join!(self.firewall.withdraw(&attachment), on_own_thread(disconnect));
        withdrawn?;
        removed?;
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
        Plan {
            veth: veth_name(&self.config.bridge, attachment.id),
            bridge_index: self.bridge_index,
            mtu: self.mtu,
            subnet: self.config.subnet,
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

/// Makes the bridge and the settings, and puts restored workloads back on the bridge. Returns its index and MTU.
fn prepare_host(config: &NetworkConfig, restored: &[WorkloadId]) -> Result<(u32, u32), OpenError> {
    let mut netlink = Netlink::open().map_err(LinkError::Socket)?;
    let bridge = &config.bridge;
    let owner = format!("hypercore node with {}", config.netns_directory.display());
    let index = link::ensure_bridge(&mut netlink, bridge, config.subnet, &owner)?;
    namespace::set(&format!("net/ipv6/conf/{bridge}/disable_ipv6"), "1")?;
    // For connections of the host to 127.0.0.1; the raw chain keeps workloads from using it the other way.
    namespace::set(&format!("net/ipv4/conf/{bridge}/route_localnet"), "1")?;
    enable_forwarding()?;
    let expected: Vec<String> = restored.iter().map(|id| veth_name(bridge, *id)).collect();
    for link in link::list(&mut netlink)? {
        if expected.contains(&link.name) && link.controller != Some(index) {
            link::enslave(&mut netlink, &link.name, index)?;
        }
    }
    let mtu = link::mtu_of(&mut netlink, bridge.as_str())?;
    Ok((index, mtu))
}

fn enable_forwarding() -> Result<(), NamespaceError> {
    let setting = "net/ipv4/ip_forward";
    let path = Path::new("/proc/sys").join(setting);
    let value = fs::read_to_string(&path).map_err(|source| NamespaceError::Setting { path, source })?;
    if value.trim() == "0" {
        tracing::info!("net.ipv4.ip_forward was 0 and is now 1, and stays so: workloads need it");
        namespace::set(setting, "1")?;
    }
    Ok(())
}
