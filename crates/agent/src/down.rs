//! The end of a node on this machine: every workload is ended, and what the node made in the kernel is taken away.
//! What it keeps on disk stays, and the next `up` finds it. It refuses to work beside a running agent.

use std::{collections::BTreeSet, error::Error, io, path::PathBuf, str::FromStr};

use hypercore_model::{Ipv4Cidr, WorkloadId};
use hypercore_runtime::{
    bundle,
    cgroup::{CgroupLayout, CgroupParent, Cgroups},
    network::{BridgeName, Network, NetworkConfig, WorkloadSubnet},
    sandbox::Sandboxes,
};

use crate::{
    directory::{Directory, DirectoryError, LockError},
    failure::chain,
    node,
};

/// Which node shall end: what distinguishes it from others on the machine.
#[derive(Debug, Clone)]
pub struct DownConfig {
    /// Where it keeps what survives a reboot.
    pub data_directory: PathBuf,
    /// Where its sockets are.
    pub runtime_directory: PathBuf,
    /// The network of its workloads.
    pub cidr: String,
    /// The bridge that joins them; names its nft table and cgroups too.
    pub bridge: String,
}

/// Why a node was not taken down, or not wholly.
#[derive(Debug, thiserror::Error)]
pub enum DownError {
    /// Only root may.
    #[error("only root may end workloads and take networks down")]
    NotRoot,
    /// Its agent runs.
    #[error("the node's agent is running: {0}")]
    Running(String),
    /// Bridge or network are not usable names.
    #[error("the network settings are not usable: {0}")]
    NetworkSettings(String),
    /// The directories can't be used.
    #[error("the node's directories can't be used")]
    Directory(#[source] Box<dyn Error + Send + Sync>),
    /// The shim or the engine are not installed.
    #[error("a program is missing")]
    Programs(#[source] Box<dyn Error + Send + Sync>),
    /// The cgroup hierarchies can't be used.
    #[error("the cgroup hierarchies can't be used")]
    Cgroups(#[source] Box<dyn Error + Send + Sync>),
    /// Something is left; trying again is safe.
    #[error("something of the node is left: {}", .0.join("; "))]
    Left(Vec<String>),
}

/// Ends the node. Answers how many workloads were ended. A node that never was is fine.
///
/// # Errors
/// [`DownError`]; what could be taken down has been.
pub async fn down(config: DownConfig) -> Result<usize, DownError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(DownError::NotRoot);
    }
    if !config.data_directory.exists() && !config.runtime_directory.exists() {
        return Ok(0);
    }
    let bad = |error: &dyn Error| DownError::NetworkSettings(error.to_string());
    let bridge = BridgeName::from_str(&config.bridge).map_err(|error| bad(&error))?;
    let cidr = Ipv4Cidr::from_str(&config.cidr).map_err(|error| bad(&error))?;
    let subnet = WorkloadSubnet::try_from(cidr).map_err(|error| bad(&error))?;
    let parent = CgroupParent::new(bridge.as_str()).map_err(|error| bad(&error))?;
    let directory = Directory::open(&config.data_directory, &config.runtime_directory);
    let directory = directory.map_err(|error| match error {
        DirectoryError::Lock(held @ LockError::Held { .. }) => DownError::Running(held.to_string()),
        error => DownError::Directory(error.into()),
    })?;
    let sandboxes =
        node::sandboxes(&config.runtime_directory).map_err(|error| DownError::Programs(error.into()))?;
    let layout = CgroupLayout::detect().map_err(|error| DownError::Cgroups(error.into()))?;
    let network = NetworkConfig { bridge, subnet, prefix: None, netns_directory: directory.netns() };
    let end = End { directory, sandboxes, cgroups: Cgroups::new(layout, parent), left: Vec::new() };
    end.carry_out(network).await
}

/// A node that is being ended.
struct End {
    directory: Directory,
    sandboxes: Sandboxes,
    cgroups: Cgroups,
    left: Vec<String>,
}

impl End {
    async fn carry_out(mut self, network: NetworkConfig) -> Result<usize, DownError> {
        let running = self.end_sandboxes().await;
        self.unmount().await;
        // Nothing that ran needs its place any more.
        match Network::open(network, Vec::new()).await {
            Ok(network) => {
                self.note("the network", network.sweep(BTreeSet::new).await);
                self.note("the network", network.close().await);
            }
            Err(error) => self.left.push(format!("the network: {}", chain(&error))),
        }
        let swept = self.cgroups.sweep(BTreeSet::new);
        self.note("cgroups", swept);
        let closed = self.cgroups.close();
        self.note("cgroups", closed);
        match std::fs::remove_file(self.directory.api_socket()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                self.note("the API socket", Err::<(), _>(error))
            }
            _ => {}
        }
        if self.left.is_empty() { Ok(running) } else { Err(DownError::Left(self.left)) }
    }

    async fn end_sandboxes(&mut self) -> usize {
        let ids = match self.sandboxes.scan() {
            Ok(ids) => ids,
            Err(error) => {
                self.note("shims", Err::<(), _>(error));
                Vec::new()
            }
        };
        for id in &ids {
            // One that is paused could not end.
            let _ = self.cgroups.thaw(*id);
            let destroyed = self.sandboxes.destroy(*id).await;
            self.note(&what("the processes", *id), destroyed);
        }
        ids.len()
    }

    async fn unmount(&mut self) {
        let ids = match self.directory.workload_ids() {
            Ok(ids) => ids,
            Err(error) => return self.note("mounts", Err::<(), _>(error)),
        };
        for id in ids {
            let paths = self.directory.workload(id);
            let root = paths.directory().to_owned();
            let unmounted = tokio::task::spawn_blocking(move || bundle::discard(&root)).await;
            self.note(&what("the root filesystem", id), unmounted.unwrap_or(Ok(())));
            // Its address is free again; the next agent must not believe that it has one.
            let _ = std::fs::remove_file(paths.surroundings());
        }
    }

    fn note<T, E: Error>(&mut self, what: &str, result: Result<T, E>) {
        if let Err(error) = result {
            self.left.push(format!("{what}: {}", chain(&error)));
        }
    }
}

fn what(part: &str, id: WorkloadId) -> String {
    format!("{part} of {}", id.short())
}
