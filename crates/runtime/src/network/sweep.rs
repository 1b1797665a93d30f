//! Finding and removing what crashes left: links of the node's groups, namespaces in its directory, elements of its
//! table. It refuses to look at anything that isn't this node's by name.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use hypercore_model::WorkloadId;

use super::{
    BridgeName, DetachError, FirewallError, LinkError, NamespaceError, Network,
    attachment::{VETH_PREFIX, netns_path, veth_name},
    group::NodeTag,
    link,
    namespace::{self, on_own_thread},
    netlink::Netlink,
};

/// What a sweep removed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Swept {
    /// Workloads that were attached and not to be kept.
    pub workloads: BTreeSet<WorkloadId>,
    /// Names of veth ends that belonged to no attachment.
    pub links: Vec<String>,
    /// Files of namespaces that belonged to no attachment.
    pub namespaces: Vec<PathBuf>,
}

/// Which step of a sweep failed.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// A workload can't be detached.
    #[error("can't detach workload {0}")]
    Detach(WorkloadId, #[source] DetachError),
    /// The directory of namespaces can't be read.
    #[error("can't read {path}")]
    Read {
        /// Which directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A leftover link can't be found or removed.
    #[error("can't sweep links")]
    Link(#[from] LinkError),
    /// A leftover namespace can't be removed.
    #[error("can't sweep namespaces")]
    Namespace(#[from] NamespaceError),
    /// The firewall can't be set right.
    #[error("can't sweep the firewall")]
    Firewall(#[from] FirewallError),
}

impl Network {
    /// Detaches every workload that is not among those to keep, and those whose attaching or detaching was given up half
    /// way, whose addresses and ports stay reserved until then. Removes every link and namespace of this node that
    /// belongs to no attachment and to none to keep, and makes the firewall anew, should somebody have changed it. It waits until no workload is being worked on
    /// and asks `keep` only then, so that one that was attached meanwhile is known to the answer.
    ///
    /// # Errors
    /// [`SweepError`], by step; what came before it was removed.
    pub async fn sweep(
        &self,
        keep: impl FnOnce() -> BTreeSet<WorkloadId> + Send,
    ) -> Result<Swept, SweepError> {
        let _alone = self.sweeping.write().await;
        let keep = keep();
        let mut swept = Swept::default();
        let mut surplus = BTreeSet::from_iter(self.registry().incomplete());
        surplus.extend(self.registry().ids().into_iter().filter(|id| !keep.contains(id)));
        for id in surplus {
            self.take_down(id, None).await.map_err(|source| SweepError::Detach(id, source))?;
            swept.workloads.insert(id);
        }
        let mut known = keep;
        known.extend(self.registry().ids());
        let links = known.iter().map(|id| veth_name(&self.config.bridge, *id)).collect();
        let files = known.iter().map(|id| netns_path(&self.config.netns_directory, *id)).collect();
        let (bridge, directory) = (self.config.bridge.clone(), self.config.netns_directory.clone());
        (swept.links, swept.namespaces) = on_own_thread(move || -> Result<_, SweepError> {
            Ok((sweep_links(&bridge, &links)?, sweep_namespaces(&directory, &files)?))
        })
        .await?;
        let attachments = self.registry().attachments();
        self.firewall.install(&attachments).await?;
        Ok(swept)
    }
}

fn sweep_links(bridge: &BridgeName, known: &BTreeSet<String>) -> Result<Vec<String>, LinkError> {
    let tag = NodeTag::of(bridge);
    let mut netlink = Netlink::open().map_err(LinkError::Socket)?;
    let mut removed = Vec::new();
    for link in link::list(&mut netlink)? {
        if tag.owns(link.group) && link.name.starts_with(VETH_PREFIX) && !known.contains(&link.name) {
            link::remove(&mut netlink, &link.name)?;
            removed.push(link.name);
        }
    }
    Ok(removed)
}

fn sweep_namespaces(directory: &Path, known: &BTreeSet<PathBuf>) -> Result<Vec<PathBuf>, SweepError> {
    let wrap = |source| SweepError::Read { path: directory.to_owned(), source };
    let mut removed = Vec::new();
    for entry in fs::read_dir(directory).map_err(wrap)? {
        let path = entry.map_err(wrap)?.path();
        let is_workload =
            path.file_name().and_then(|name| name.to_str()?.parse::<WorkloadId>().ok()).is_some();
        if is_workload && !known.contains(&path) {
            namespace::remove(&path)?;
            removed.push(path);
        }
    }
    Ok(removed)
}
