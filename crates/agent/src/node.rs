//! How a node is put together, run and taken down. It refuses to do any of the work itself.

use std::{
    collections::BTreeSet,
    future::Future,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use hypercore_dataplane::tls::files::CertificateFiles;
use hypercore_model::{Ipv4Cidr, NodeId, Timestamp, WorkloadId};
use hypercore_runtime::{
    cgroup::{CgroupLayout, CgroupParent, Cgroups},
    machine::snapshot::{self, SnapshotStore},
    network::{Attachment, BridgeName, LinkError, Network, NetworkConfig, OpenError, WorkloadSubnet},
    sandbox::Sandboxes,
    volume::VolumeStore,
};
use tokio::net::UnixListener;

use crate::{
    admission,
    board::Board,
    certificates::{ApiTls, Authority},
    clock,
    config::AgentConfig,
    directory::{Directory, DirectoryError, LockError},
    events::{Action, Event, Events},
    failure::chain,
    forks::Forks,
    images::Images,
    ingress::{self, Doors, IngressError, Urls},
    keeper,
    ledger::{Ledger, SubmitError},
    listeners::{ListenError, Listeners},
    machines::Machines,
    metrics::Metrics,
    prefix::prefix_of,
    programs::find_program,
    reconcile, server,
    supervisor::{RestartPolicy, Supervisor},
    watchdog,
};

/// How long tasks get to end by themselves when the node goes down, besides the time that requests get.
const SHUTDOWN_TIME_MAX: Duration = Duration::from_secs(5);

/// What lies beneath a failed step.
type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Why a node could not run. Each variant is the step that failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Only root may make namespaces, mounts and cgroups.
    #[error("hypercore must run as root to make namespaces, mounts and cgroups")]
    NotRoot,
    /// The bridge or the network it was given can't be used.
    #[error("the network settings are not usable: {0}")]
    NetworkSettings(String),
    /// Another agent uses one of the directories, or somebody has the bridge's name or its subnet.
    #[error(transparent)]
    InUse(Fault),
    /// The data directory can't be used.
    #[error("the data directory can't be used")]
    Directory(#[source] Fault),
    /// The state can't be opened.
    #[error("the state can't be opened")]
    Ledger(#[source] Fault),
    /// The node could not admit itself to its own state.
    #[error("the node could not be admitted to its state")]
    Admit(#[source] Fault),
    /// The state has the node with another subnet.
    #[error(transparent)]
    Rejected(Fault),
    /// The node's certificate authority can't be opened.
    #[error("the node's certificate authority can't be used")]
    Authority(#[source] Fault),
    /// The API can't be served with TLS.
    #[error("the API can't be served on the network")]
    Tls(#[source] Fault),
    /// The images can't be opened.
    #[error("the images can't be opened")]
    Images(#[source] Fault),
    /// The volumes can't be opened.
    #[error("the volumes can't be opened")]
    Volumes(#[source] Fault),
    /// The snapshots can't be opened.
    #[error("the snapshots can't be opened")]
    Snapshots(#[source] Fault),
    /// The cgroup hierarchies can't be used.
    #[error("the cgroup hierarchies can't be used")]
    Cgroups(#[source] Fault),
    /// The workloads' network can't be made.
    #[error("the workloads' network can't be made")]
    Network(#[source] Fault),
    /// One of the programs that belong to the agent is missing.
    #[error("{0} is not beside the hypercore program; install both together")]
    ProgramMissing(PathBuf),
    /// A socket can't be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The ingress can't be set up.
    #[error(transparent)]
    Ingress(IngressError),
    /// A task that the node can't do without came to an end.
    #[error("the task `{0}` ended, and the node can't go on without it")]
    TaskEnded(String),
}

impl From<IngressError> for RunError {
    /// A socket that is taken is told alike, whoever would listen on it.
    fn from(error: IngressError) -> Self {
        match error {
            IngressError::Listen(error) => Self::Listen(error),
            error @ IngressError::Certificate(_) => Self::Ingress(error),
        }
    }
}

/// A running node: what its tasks share.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) identity: NodeId,
    pub(crate) directory: Directory,
    pub(crate) runtime_directory: PathBuf,
    pub(crate) started_at: Timestamp,
    /// How long the records of removed workloads are kept.
    pub(crate) records_keep: Duration,
    pub(crate) ledger: Ledger,
    pub(crate) tls: ApiTls,
    pub(crate) board: Board,
    pub(crate) events: Events,
    pub(crate) images: Images,
    pub(crate) volumes: VolumeStore,
    pub(crate) snapshots: SnapshotStore,
    pub(crate) forks: Forks,
    pub(crate) network: Network,
    pub(crate) cgroups: Cgroups,
    pub(crate) sandboxes: Sandboxes,
    pub(crate) machines: Machines,
    pub(crate) metrics: Metrics,
    pub(crate) urls: Urls,
}

/// Runs a node until `shutdown` completes or a task it needs ends, on sockets of `listeners`. `ready` is called once it
/// answers.
///
/// Workloads go on when this returns, whatever it returns.
///
/// # Errors
/// [`RunError`], naming the step that failed.
pub async fn run(
    config: AgentConfig,
    listeners: Listeners,
    shutdown: impl Future<Output = ()> + Send,
    ready: impl FnOnce() + Send,
) -> Result<(), RunError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(RunError::NotRoot);
    }
    let directory = open_directory(&config)?;
    // Before anything is made that would have to be taken down again: an address that is in use is a common mistake.
    let doors = Doors::open(&config, &listeners)?;
    let patience = SHUTDOWN_TIME_MAX + config.ingress.drain;
    let grpc = config.grpc_listen.map(|address| listeners.tcp("grpc", address)).transpose()?;
    let supervisor = Supervisor::new();
    let node = Arc::new(build(&config, directory, &supervisor).await?);
    let api = match listeners.unix("api", &node.directory.api_socket()) {
        Ok(api) => api,
        Err(error) => {
            take_down(node, supervisor, &listeners, patience).await;
            return Err(error.into());
        }
    };
    let network_api = match grpc {
        Some(listener) => match server::NetworkApi::new(&node, listener) {
            Ok(api) => Some(api),
            Err(error) => {
                take_down(node, supervisor, &listeners, patience).await;
                return Err(RunError::Tls(error.into()));
            }
        },
        None => None,
    };
    listeners.release_unused();
    spawn(&node, &supervisor, api);
    ingress::spawn(&node, &supervisor, doors, &config.ingress);
    if let Some(network_api) = network_api {
        network_api.spawn(&node, &supervisor);
    }
    tracing::info!(node = %node.identity.short(), "ready");
    ready();
    let ended = tokio::select! {
        () = shutdown => Ok(()),
        name = supervisor.critical_ended() => Err(RunError::TaskEnded(name)),
    };
    take_down(node, supervisor, &listeners, patience).await;
    ended
}

/// Takes the node's directories, which no other agent can have meanwhile.
fn open_directory(config: &AgentConfig) -> Result<Directory, RunError> {
    Directory::open(&config.data_directory, &config.runtime_directory).map_err(|error| match error {
        DirectoryError::Lock(LockError::Held { .. }) => RunError::InUse(error.into()),
        _ => RunError::Directory(error.into()),
    })
}

async fn build(
    config: &AgentConfig,
    directory: Directory,
    supervisor: &Supervisor,
) -> Result<Node, RunError> {
    let bad = |error: &dyn std::error::Error| RunError::NetworkSettings(error.to_string());
    let bridge = BridgeName::from_str(&config.bridge).map_err(|error| bad(&error))?;
    let subnet = Ipv4Cidr::from_str(&config.cidr).map_err(|error| bad(&error))?;
    let workload_subnet = WorkloadSubnet::try_from(subnet).map_err(|error| bad(&error))?;
    let cgroups = open_cgroups(&bridge)?;

    let identity = directory.identity().map_err(|error| RunError::Directory(error.into()))?;
    let node_id = identity.node_id();
    let prefix = prefix_of(&config.cidr6, node_id, &bridge)
        .map_err(|error| RunError::NetworkSettings(chain(&error)))?;
    let ledger = Ledger::open(&directory, identity, config.fsync, config.in_memory, supervisor)
        .map_err(|error| RunError::Ledger(error.into()))?;
    admission::check(&ledger, node_id, subnet).map_err(|error| RunError::Rejected(error.into()))?;

    let tls = open_tls(config, &directory, node_id)?;
    let images = Images::open(config, &directory).map_err(|error| RunError::Images(error.into()))?;
    let volumes = VolumeStore::open(&directory.volumes()).map_err(|error| RunError::Volumes(error.into()))?;
    let (snapshots, forks) = open_snapshots(&directory)?;
    let network_config =
        NetworkConfig { bridge, subnet: workload_subnet, prefix, netns_directory: directory.netns() };
    let sandboxes = sandboxes(&config.runtime_directory)?;
    let network = open_network(network_config, &directory, &sandboxes).await?;
    admission::admit(&ledger, node_id, subnet).await.map_err(not_admitted)?;
    Ok(Node {
        identity: node_id,
        runtime_directory: config.runtime_directory.clone(),
        started_at: clock::now(),
        ledger,
        tls,
        records_keep: config.records_keep,
        board: Board::default(),
        events: Events::default(),
        images,
        volumes,
        snapshots,
        forks,
        network,
        cgroups,
        sandboxes,
        machines: Machines::new(&config.machines, &config.data_directory, &config.runtime_directory),
        metrics: Metrics::new(),
        urls: Urls::new(config),
        directory,
    })
}

/// The node's cgroups, named after its bridge.
fn open_cgroups(bridge: &BridgeName) -> Result<Cgroups, RunError> {
    let parent = CgroupParent::new(bridge.as_str());
    let parent = parent.map_err(|error| RunError::NetworkSettings(error.to_string()))?;
    let layout = CgroupLayout::detect().map_err(|error| RunError::Cgroups(error.into()))?;
    Ok(Cgroups::new(layout, parent))
}

/// The snapshots, and those among them that are for clones alone.
fn open_snapshots(directory: &Directory) -> Result<(SnapshotStore, Forks), RunError> {
    let opened = SnapshotStore::open(&directory.snapshots()).and_then(|store| Ok((store.list()?, store)));
    let (looks, store) = opened.map_err(|error| RunError::Snapshots(error.into()))?;
    let names = looks.into_iter().map(|look| look.name);
    Ok((store, Forks::left(names.filter(snapshot::is_temporary))))
}

fn not_admitted(error: SubmitError) -> RunError {
    match error {
        SubmitError::Rejected(rejection) => RunError::Rejected(rejection.into()),
        error => RunError::Admit(error.into()),
    }
}

/// The node's own authority, and what the API is served with on TCP.
fn open_tls(config: &AgentConfig, directory: &Directory, node: NodeId) -> Result<ApiTls, RunError> {
    let authority = Authority::open(directory, node, clock::now());
    let authority = authority.map_err(|error| RunError::Authority(error.into()))?;
    let given = config
        .grpc_certificate
        .clone()
        .map(|files| CertificateFiles { certificates: files.certificate, key: files.key });
    Ok(ApiTls::new(Arc::new(authority), given))
}

/// Takes up the network of an earlier run, with all that is known to be attached to it. What isn't was being attached
/// when that run was cut short: nothing runs in it yet, and it goes before anybody else is given its address.
async fn open_network(
    config: NetworkConfig,
    directory: &Directory,
    sandboxes: &Sandboxes,
) -> Result<Network, RunError> {
    let attached = attachments(directory);
    let mut kept: BTreeSet<WorkloadId> = attached.iter().map(|attachment| attachment.id).collect();
    // Should a record have been lost, its workload still keeps what it has.
    kept.extend(sandboxes.scan().map_err(|error| RunError::Network(error.into()))?);
    let network = Network::open(config, attached).await.map_err(|error| match &error {
        OpenError::Bridge(
            LinkError::Taken { .. } | LinkError::SubnetTaken { .. } | LinkError::Alike { .. },
        ) => RunError::InUse(error.into()),
        _ => RunError::Network(error.into()),
    })?;
    if let Err(error) = network.sweep(|| kept).await {
        tracing::warn!(error = chain(&error), "could not remove what an earlier run left of the network");
    }
    Ok(network)
}

/// What the workloads of an earlier run of the agent are attached to.
fn attachments(directory: &Directory) -> Vec<Attachment> {
    let ids = directory.workload_ids().unwrap_or_default();
    ids.into_iter()
        .filter_map(|id| keeper::read_surroundings(&directory.workload(id)))
        .map(|given| given.attachment)
        .collect()
}

/// The shims that are started with the programs of this release.
pub(crate) fn sandboxes(runtime_directory: &Path) -> Result<Sandboxes, RunError> {
    let program = |name: &str| find_program(name).map_err(RunError::ProgramMissing);
    Ok(Sandboxes::new(program("hypercore-shim")?, program("hypercore-engine")?, runtime_directory.to_owned()))
}

fn spawn(node: &Arc<Node>, supervisor: &Supervisor, api: UnixListener) {
    node.events.publish(Event::node(Action::Started, node.identity.to_string()));
    let (workloads, tree) = (Arc::clone(node), supervisor.clone());
    supervisor.spawn("reconcile/workloads", RestartPolicy::Critical, move || {
        reconcile::workloads::run(Arc::clone(&workloads), tree.clone())
    });
    let swept = Arc::clone(node);
    supervisor
        .spawn("reconcile/sweep", RestartPolicy::Backoff, move || reconcile::sweep::run(Arc::clone(&swept)));
    let machines = Arc::clone(node);
    supervisor.spawn("machines/survey", RestartPolicy::OnPanic, move || {
        let node = Arc::clone(&machines);
        async move { node.machines.run().await }
    });
    let images = Arc::clone(node);
    let forks = Arc::clone(node);
    supervisor.spawn("reconcile/snapshots", RestartPolicy::Backoff, move || {
        reconcile::snapshots::run(Arc::clone(&forks))
    });
    supervisor.spawn("reconcile/images", RestartPolicy::Backoff, move || {
        reconcile::images::run(Arc::clone(&images))
    });
    if let Some(patience) = watchdog::patience() {
        let watched = Arc::clone(node);
        supervisor.spawn("systemd/watchdog", RestartPolicy::Backoff, move || {
            watchdog::run(Arc::clone(&watched), patience)
        });
    }
    supervisor.spawn_critical("server/grpc", server::serve(Arc::clone(node), supervisor.clone(), api));
}

/// Ends the tasks, within `patience`; the network and the cgroup go too when there is no workload.
async fn take_down(node: Arc<Node>, supervisor: Supervisor, listeners: &Listeners, patience: Duration) {
    tracing::info!("shutting down; workloads go on");
    watchdog::allow_end(patience);
    supervisor.shutdown(patience).await;
    let is_empty = node.ledger.read(|state| state.workloads().next().is_none());
    let socket = node.directory.api_socket();
    // A socket that is kept open for the next start must stay where callers find it.
    if !listeners.are_kept()
        && let Err(error) = std::fs::remove_file(&socket)
    {
        tracing::debug!(path = %socket.display(), %error, "the API socket was gone already");
    }
    if is_empty {
        if let Err(error) = node.network.close().await {
            tracing::warn!(error = chain(&error), "could not take the network down");
        }
        if let Err(error) = node.cgroups.close() {
            tracing::warn!(error = chain(&error), "could not remove the node's cgroup");
        }
    }
}
