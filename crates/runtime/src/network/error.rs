//! Why the network's operations fail: one enum per operation, one variant per step. Only data lives here.

use std::{io, path::PathBuf};

use hypercore_model::WorkloadId;

use super::{
    address::WorkloadSubnet, firewall::FirewallError, link::LinkError, namespace::NamespaceError,
    registry::ClaimError,
};

/// Why a node's network could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory for namespaces can't be made.
    #[error("can't make the directory {path}")]
    Directory {
        /// Which directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A workload from before has an address that this subnet can't give it.
    #[error(
        "workload {id} has the address {address}, which isn't free in {subnet}: \
         stop the workloads before [runtime] cidr is changed"
    )]
    Restore {
        /// The workload.
        id: WorkloadId,
        /// Its address and prefix.
        address: String,
        /// The configured subnet.
        subnet: WorkloadSubnet,
    },
    /// The bridge can't be set up.
    #[error("can't set up the bridge")]
    Bridge(#[from] LinkError),
    /// A kernel setting can't be made.
    #[error("can't prepare the host for forwarding")]
    Setting(#[from] NamespaceError),
    /// The nft table can't be made.
    #[error("can't set up the nft table")]
    Firewall(#[from] FirewallError),
}

/// Why a workload could not be attached. Nothing of the attempt is left unless an error says so.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// No address or port for it.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// Its namespace can't be made.
    #[error("can't make the network namespace")]
    Namespace(#[from] NamespaceError),
    /// Its links can't be made.
    #[error("can't connect the network namespace")]
    Link(#[from] LinkError),
    /// Its ports can't be published.
    #[error("can't publish the ports")]
    Firewall(#[from] FirewallError),
}

/// Why a workload could not be detached. Its address and ports stay reserved until a later call succeeds.
#[derive(Debug, thiserror::Error)]
pub enum DetachError {
    /// Another call is at work on it.
    #[error(transparent)]
    Busy(#[from] ClaimError),
    /// Its ports can't be taken back.
    #[error("can't take the published ports back")]
    Firewall(#[from] FirewallError),
    /// Its links can't be removed.
    #[error("can't remove the links")]
    Link(#[from] LinkError),
    /// Its namespace can't be removed.
    #[error("can't remove the network namespace")]
    Namespace(#[from] NamespaceError),
}

impl From<DetachError> for AttachError {
    fn from(error: DetachError) -> Self {
        match error {
            DetachError::Busy(source) => Self::Claim(source),
            DetachError::Firewall(source) => Self::Firewall(source),
            DetachError::Link(source) => Self::Link(source),
            DetachError::Namespace(source) => Self::Namespace(source),
        }
    }
}

/// Why a node's network could not be taken down.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    /// Workloads are still attached.
    #[error("{} workloads are still attached", .0.len())]
    InUse(Vec<WorkloadId>),
    /// The nft table can't be removed.
    #[error("can't remove the nft table")]
    Firewall(#[from] FirewallError),
    /// The bridge can't be removed.
    #[error("can't remove the bridge")]
    Link(#[from] LinkError),
    /// No thread for the work.
    #[error("can't remove the bridge")]
    Thread(#[from] NamespaceError),
}
