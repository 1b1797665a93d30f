//! What is said to Cloud Hypervisor and what it answers: the part of its API's description (cloud-hypervisor.yaml) that
//! is used here. Field by field as there; what it may leave out is left out when it is `None`. What it says besides is
//! skipped. It refuses to interpret: [`super`] does.

use serde::{Deserialize, Serialize};

/// `PUT /vm.create`.
#[derive(Debug, Serialize)]
pub(super) struct VmConfig {
    pub(super) cpus: CpusConfig,
    pub(super) memory: MemoryConfig,
    pub(super) payload: PayloadConfig,
    pub(super) rate_limit_groups: Vec<RateLimitGroupConfig>,
    pub(super) disks: Vec<DiskConfig>,
    pub(super) net: Vec<NetConfig>,
    pub(super) fs: Vec<FsConfig>,
    pub(super) rng: RngConfig,
    pub(super) balloon: BalloonConfig,
    pub(super) serial: ConsoleConfig,
    pub(super) console: ConsoleConfig,
    pub(super) vsock: VsockConfig,
}

/// Processors.
#[derive(Debug, Serialize)]
pub(super) struct CpusConfig {
    pub(super) boot_vcpus: u32,
    pub(super) max_vcpus: u32,
}

/// Memory, in bytes.
#[derive(Debug, Serialize)]
pub(super) struct MemoryConfig {
    pub(super) size: u64,
    /// Who serves a directory reads and writes it, too.
    pub(super) shared: bool,
}

/// What is booted.
#[derive(Debug, Serialize)]
pub(super) struct PayloadConfig {
    pub(super) kernel: String,
    pub(super) initramfs: String,
    pub(super) cmdline: String,
}

/// A disk.
#[derive(Debug, Serialize)]
pub(super) struct DiskConfig {
    pub(super) id: String,
    pub(super) path: String,
    pub(super) readonly: bool,
    pub(super) serial: String,
    /// Said, so that what a guest writes to its beginning can't make it a disk of another form.
    pub(super) image_type: ImageType,
    /// The group whose limits it shares.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rate_limit_group: Option<String>,
}

/// The form of a disk's file.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) enum ImageType {
    Raw,
}

/// A network device.
#[derive(Debug, Serialize)]
pub(super) struct NetConfig {
    pub(super) id: String,
    pub(super) tap: String,
    pub(super) mac: String,
}

/// A directory of the host, served at a socket.
#[derive(Debug, Serialize)]
pub(super) struct FsConfig {
    pub(super) tag: String,
    pub(super) socket: String,
    pub(super) num_queues: u32,
    pub(super) queue_size: u32,
}

/// Limits that several disks share.
#[derive(Debug, Serialize)]
pub(super) struct RateLimitGroupConfig {
    pub(super) id: String,
    pub(super) rate_limiter_config: RateLimiterConfig,
}

/// Bytes and operations, each as a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct RateLimiterConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bandwidth: Option<TokenBucket>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ops: Option<TokenBucket>,
}

/// `size` tokens each `refill_time` milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct TokenBucket {
    pub(super) size: u64,
    pub(super) refill_time: u64,
}

/// Where randomness comes from.
#[derive(Debug, Serialize)]
pub(super) struct RngConfig {
    pub(super) src: String,
}

/// What gives memory back.
#[derive(Debug, Serialize)]
pub(super) struct BalloonConfig {
    /// In bytes.
    pub(super) size: u64,
    pub(super) deflate_on_oom: bool,
    pub(super) free_page_reporting: bool,
}

/// A console or a serial port.
#[derive(Debug, Serialize)]
pub(super) struct ConsoleConfig {
    pub(super) mode: ConsoleMode,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<String>,
}

/// Where it leads.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) enum ConsoleMode {
    Off,
    File,
}

/// The guest's socket.
#[derive(Debug, Serialize)]
pub(super) struct VsockConfig {
    /// 3 or more.
    pub(super) cid: u32,
    pub(super) socket: String,
}

/// `PUT /vm.snapshot`.
#[derive(Debug, Serialize)]
pub(super) struct VmSnapshotConfig {
    pub(super) destination_url: String,
}

/// `PUT /vm.restore`.
#[derive(Debug, Serialize)]
pub(super) struct RestoreConfig {
    pub(super) source_url: String,
    pub(super) prefault: bool,
}

/// `GET /vmm.ping`.
#[derive(Debug, Deserialize)]
pub(super) struct VmmPing {
    pub(super) version: String,
}

/// `GET /vm.info`.
#[derive(Debug, Deserialize)]
pub(super) struct VmInfo {
    pub(super) state: VmState,
}

/// How far a machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum VmState {
    Created,
    Running,
    Shutdown,
    Paused,
    BreakPoint,
}
