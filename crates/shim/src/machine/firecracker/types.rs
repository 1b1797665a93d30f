//! What is said to Firecracker and what it answers: the part of its API's description (firecracker.yaml, 1.17) that is
//! used here. Field by field as there; what it may leave out is left out when it is `None`. What it says besides is
//! skipped. It refuses to interpret: [`super`] does.

use serde::{Deserialize, Serialize};

/// `PUT /machine-config`.
#[derive(Debug, Serialize)]
pub(super) struct MachineConfiguration {
    /// 1 to 32.
    pub(super) vcpu_count: u32,
    pub(super) mem_size_mib: u32,
}

/// `PUT /boot-source`.
#[derive(Debug, Serialize)]
pub(super) struct BootSource<'a> {
    pub(super) kernel_image_path: &'a str,
    pub(super) initrd_path: &'a str,
    pub(super) boot_args: &'a str,
}

/// `PUT /drives/{drive_id}`.
#[derive(Debug, Serialize)]
pub(super) struct Drive<'a> {
    pub(super) drive_id: &'a str,
    pub(super) path_on_host: &'a str,
    pub(super) is_root_device: bool,
    pub(super) is_read_only: bool,
    pub(super) cache_type: CacheType,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rate_limiter: Option<RateLimiter>,
}

/// What a guest's flush does.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) enum CacheType {
    /// Nothing.
    Unsafe,
    /// Brings what was written to the disk.
    Writeback,
}

/// Bytes and operations, each as a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct RateLimiter {
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

/// `PUT /network-interfaces/{iface_id}`.
#[derive(Debug, Serialize)]
pub(super) struct NetworkInterface<'a> {
    pub(super) iface_id: &'a str,
    pub(super) host_dev_name: &'a str,
    pub(super) guest_mac: &'a str,
}

/// `PUT /vsock`.
#[derive(Debug, Serialize)]
pub(super) struct Vsock<'a> {
    /// 3 or more.
    pub(super) guest_cid: u32,
    pub(super) uds_path: &'a str,
}

/// `PUT /entropy`.
#[derive(Debug, Serialize)]
pub(super) struct EntropyDevice {}

/// `PUT /balloon`.
#[derive(Debug, Serialize)]
pub(super) struct Balloon {
    pub(super) amount_mib: u32,
    pub(super) deflate_on_oom: bool,
    pub(super) free_page_reporting: bool,
}

/// `PUT /actions`.
#[derive(Debug, Serialize)]
pub(super) struct InstanceAction {
    pub(super) action_type: ActionType,
}

/// What is done at once.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) enum ActionType {
    InstanceStart,
}

/// `PATCH /vm`.
#[derive(Debug, Serialize)]
pub(super) struct Vm {
    pub(super) state: VmState,
}

/// Whether a machine's processors run.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) enum VmState {
    Paused,
    Resumed,
}

/// `PUT /snapshot/create`.
#[derive(Debug, Serialize)]
pub(super) struct SnapshotCreate<'a> {
    pub(super) snapshot_type: SnapshotType,
    pub(super) snapshot_path: &'a str,
    pub(super) mem_file_path: &'a str,
}

/// How much of the memory is written.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) enum SnapshotType {
    /// All of it.
    Full,
}

/// `PUT /snapshot/load`.
#[derive(Debug, Serialize)]
pub(super) struct SnapshotLoad<'a> {
    pub(super) snapshot_path: &'a str,
    pub(super) mem_backend: MemoryBackend<'a>,
    pub(super) network_overrides: Vec<NetworkOverride<'a>>,
    pub(super) vsock_override: VsockOverride<'a>,
    pub(super) resume_vm: bool,
}

/// Where memory comes from.
#[derive(Debug, Serialize)]
pub(super) struct MemoryBackend<'a> {
    pub(super) backend_type: BackendType,
    pub(super) backend_path: &'a str,
}

/// How it comes.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) enum BackendType {
    /// By a private mapping of a file: what isn't touched isn't read, what is written is the machine's own.
    File,
}

/// Another TAP device for an interface of a snapshot.
#[derive(Debug, Serialize)]
pub(super) struct NetworkOverride<'a> {
    pub(super) iface_id: &'a str,
    pub(super) host_dev_name: &'a str,
}

/// Another socket for the vsock device of a snapshot.
#[derive(Debug, Serialize)]
pub(super) struct VsockOverride<'a> {
    pub(super) uds_path: &'a str,
}

/// `GET /`.
#[derive(Debug, Deserialize)]
pub(super) struct InstanceInfo {
    pub(super) state: InstanceState,
    pub(super) vmm_version: String,
}

/// How far a machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum InstanceState {
    #[serde(rename = "Not started")]
    NotStarted,
    Running,
    Paused,
}

/// Any request's refusal.
#[derive(Debug, Deserialize)]
pub(super) struct Fault {
    #[serde(default)]
    pub(super) fault_message: String,
}
