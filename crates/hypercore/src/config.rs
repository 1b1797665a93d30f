//! What the configuration file may say, with its defaults: one struct per table of `hypercore.toml`.
//!
//! ```text
//!   defaults  <-  /etc/hypercore/hypercore.toml or --config FILE  <-  HYPERCORE_<TABLE>_<KEY>  <-  flags of `up`
//! ```
//!
//! Every table and key is known here and checked, also those that a single node doesn't use yet, so that one file
//! is valid for every release. It refuses unknown keys, and it refuses to stop at the first mistake.

mod address;
mod choice;
mod domain;
mod load;
mod mistake;
mod schema;
mod setting;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use serde::Serialize;

pub(crate) use address::{Bridge, Cidr};
pub(crate) use choice::{Backend, IngressTlsChoice, LogFormat, LogLevel, Vmm};
pub(crate) use domain::Domain;
pub(crate) use load::{DEFAULT_PATH, Loaded, load, load_defaults};
pub(crate) use mistake::ConfigError;
pub(crate) use setting::{AbsolutePath, OrEmpty, from_text};

use address::{Cidr6, NodeIdentity, Url};
use choice::{Algorithm, Encryption, KeyDerivation, Protocol, Signature, TlsVersion};
use setting::{Period, PeriodWithin, Price, Whole};

/// The whole file. Field names are the keys; `schema` lists them once more with how each is read.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub(crate) struct Config {
    pub(crate) node: NodeTable,
    pub(crate) transport: TransportTable,
    pub(crate) consensus: ConsensusTable,
    pub(crate) security: SecurityTable,
    pub(crate) storage: StorageTable,
    pub(crate) gateway: GatewayTable,
    pub(crate) runtime: RuntimeTable,
    pub(crate) cluster: ClusterTable,
    pub(crate) ingress: IngressTable,
    pub(crate) beacon: BeaconTable,
    pub(crate) logging: LoggingTable,
}

/// `[node]`: this machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct NodeTable {
    pub(crate) id: NodeIdentity,
    pub(crate) listen_address: SocketAddr,
    pub(crate) data_directory: AbsolutePath,
    pub(crate) runtime_directory: AbsolutePath,
    pub(crate) max_connections: Whole<1, 1_000_000>,
    pub(crate) region: String,
    pub(crate) labels: BTreeMap<String, String>,
}

impl Default for NodeTable {
    fn default() -> Self {
        Self {
            id: NodeIdentity::Auto,
            listen_address: SocketAddr::from(([0u16; 8], 7946)),
            data_directory: AbsolutePath(PathBuf::from("/var/lib/hypercore")),
            runtime_directory: AbsolutePath(PathBuf::from("/run/hypercore")),
            max_connections: Whole(10_000),
            region: String::new(),
            labels: BTreeMap::new(),
        }
    }
}

/// `[transport]`: between nodes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct TransportTable {
    pub(crate) protocol: Protocol,
    pub(crate) tls_version: TlsVersion,
    pub(crate) certificate_path: OrEmpty<AbsolutePath>,
    pub(crate) key_rotation_interval: Period,
}

impl Default for TransportTable {
    fn default() -> Self {
        Self {
            protocol: Protocol::Quic,
            tls_version: TlsVersion::V1_3,
            certificate_path: OrEmpty(None),
            key_rotation_interval: Period::from_secs(24 * 60 * 60),
        }
    }
}

/// `[consensus]`: how nodes agree.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ConsensusTable {
    pub(crate) algorithm: Algorithm,
    pub(crate) timeout: Period,
    pub(crate) batch_size: Whole<1, 100_000>,
    pub(crate) checkpoint_interval: Whole<1, 1_000_000_000>,
    pub(crate) validators_max: Whole<1, 100>,
}

impl Default for ConsensusTable {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::Tendermint,
            timeout: Period::from_secs(1),
            batch_size: Whole(100),
            checkpoint_interval: Whole(1000),
            validators_max: Whole(7),
        }
    }
}

/// `[security]`: the algorithms, named so that a reader of the file sees them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct SecurityTable {
    pub(crate) encryption_algorithm: Encryption,
    pub(crate) signature_algorithm: Signature,
    pub(crate) key_derivation: KeyDerivation,
}

impl Default for SecurityTable {
    fn default() -> Self {
        Self {
            encryption_algorithm: Encryption::XChaCha20Poly1305,
            signature_algorithm: Signature::Ed25519,
            key_derivation: KeyDerivation::Argon2,
        }
    }
}

/// `[storage]`: what must survive a reboot.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct StorageTable {
    pub(crate) backend: Backend,
    pub(crate) replication_factor: Whole<1, 100>,
    pub(crate) fsync: bool,
}

impl Default for StorageTable {
    fn default() -> Self {
        Self { backend: Backend::Redb, replication_factor: Whole(4), fsync: true }
    }
}

/// `[gateway]`: the REST front door, and the services it can use but never needs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct GatewayTable {
    pub(crate) listen_address: SocketAddr,
    pub(crate) database_url: OrEmpty<Url>,
    pub(crate) redis_url: OrEmpty<Url>,
    pub(crate) loki_url: OrEmpty<Url>,
}

impl Default for GatewayTable {
    fn default() -> Self {
        Self {
            listen_address: SocketAddr::from(([127, 0, 0, 1], 8080)),
            database_url: OrEmpty(None),
            redis_url: OrEmpty(None),
            loki_url: OrEmpty(None),
        }
    }
}

/// `[runtime]`: how workloads run on this machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct RuntimeTable {
    pub(crate) vmm: Vmm,
    pub(crate) kernel: OrEmpty<AbsolutePath>,
    /// How long a microVM's guest may take to its first word.
    pub(crate) boot_time_max: PeriodWithin<1, 600>,
    pub(crate) cidr: Cidr,
    pub(crate) cidr6: Cidr6,
    pub(crate) bridge: Bridge,
    pub(crate) registry_mirrors: Vec<String>,
    pub(crate) insecure_registries: Vec<String>,
    /// Public keys (PEM files): when there are any, only images that one of them signed are pulled or run.
    pub(crate) verify_keys: Vec<AbsolutePath>,
    /// Above this part of the disk, unused images are removed until at most the lower part is used.
    pub(crate) image_gc_high_percent: Whole<1, 100>,
    pub(crate) image_gc_low_percent: Whole<0, 100>,
    pub(crate) records_keep: Period,
}

impl Default for RuntimeTable {
    fn default() -> Self {
        Self {
            vmm: Vmm::Auto,
            kernel: OrEmpty(None),
            boot_time_max: PeriodWithin::from_secs(50),
            cidr: Cidr::default(),
            cidr6: Cidr6::default(),
            bridge: Bridge::default(),
            registry_mirrors: Vec::new(),
            insecure_registries: Vec::new(),
            verify_keys: Vec::new(),
            image_gc_high_percent: Whole(85),
            image_gc_low_percent: Whole(75),
            records_keep: Period::from_secs(60 * 60),
        }
    }
}

/// `[cluster]`: what the cluster shows to the world.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ClusterTable {
    pub(crate) base_url: OrEmpty<Domain>,
    pub(crate) grpc_listen_address: OrEmpty<SocketAddr>,
    pub(crate) tls_cert: OrEmpty<AbsolutePath>,
    pub(crate) tls_key: OrEmpty<AbsolutePath>,
    pub(crate) policy: OrEmpty<AbsolutePath>,
    pub(crate) respawn_on_node_failure: bool,
}

impl Default for ClusterTable {
    fn default() -> Self {
        Self {
            base_url: OrEmpty(None),
            grpc_listen_address: OrEmpty(None),
            tls_cert: OrEmpty(None),
            tls_key: OrEmpty(None),
            policy: OrEmpty(None),
            respawn_on_node_failure: true,
        }
    }
}

/// `[ingress]`: how workloads are served to the world.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct IngressTable {
    pub(crate) http: OrEmpty<SocketAddr>,
    pub(crate) https: OrEmpty<SocketAddr>,
    pub(crate) tls: IngressTlsChoice,
    pub(crate) acme_directory: Url,
    pub(crate) acme_email: String,
    pub(crate) drain: Period,
    pub(crate) access_log: bool,
}

impl Default for IngressTable {
    fn default() -> Self {
        Self {
            http: OrEmpty(None),
            https: OrEmpty(None),
            tls: IngressTlsChoice::Off,
            acme_directory: Url::lets_encrypt(),
            acme_email: String::new(),
            drain: Period::from_secs(5),
            access_log: true,
        }
    }
}

/// `[beacon]`: what this node says about itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct BeaconTable {
    pub(crate) endpoint: OrEmpty<Url>,
    pub(crate) price_per_gb: Price,
    pub(crate) interval: Period,
}

impl Default for BeaconTable {
    fn default() -> Self {
        Self { endpoint: OrEmpty(None), price_per_gb: Price(0.01), interval: Period::from_secs(5) }
    }
}

/// `[logging]`: what the agent says on stderr.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct LoggingTable {
    pub(crate) level: LogLevel,
    pub(crate) format: LogFormat,
    pub(crate) otlp_endpoint: OrEmpty<Url>,
}

impl Default for LoggingTable {
    fn default() -> Self {
        Self { level: LogLevel::Info, format: LogFormat::Text, otlp_endpoint: OrEmpty(None) }
    }
}
