//! Messages about a microVM as a whole, from the host to its guest. Every field's number is frozen.
//! What is secret (environment, arguments) never comes this way: it goes with [`super::Exec`].

use minicbor::{Decode, Encode};

/// Makes the guest what this workload's machine shall be. Sent once after each boot, and again to a clone, which then
/// forgets who it was. Answered by [`super::Done`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Prepare {
    /// The machine's name.
    #[n(0)]
    pub hostname: String,
    /// Addresses of its network interface with their prefix lengths, such as `172.16.0.2/16`. Empty leaves it down.
    #[n(1)]
    pub addresses: Vec<String>,
    /// Where packets for elsewhere go, one for each family at most.
    #[n(2)]
    pub gateways: Vec<String>,
    /// The text of `/etc/resolv.conf`; empty leaves the image's.
    #[n(3)]
    pub resolv_conf: String,
    /// The text of `/etc/hosts`; empty leaves the image's.
    #[n(4)]
    pub hosts: String,
    /// The time, in milliseconds since the Unix epoch.
    #[n(5)]
    pub now_ms: u64,
    /// Fresh randomness for the kernel's generator.
    #[n(6)]
    #[cbor(with = "minicbor::bytes")]
    pub entropy: Vec<u8>,
    /// What is mounted besides the image, in this order.
    #[n(7)]
    pub mounts: Vec<GuestMount>,
    /// The workload may not write to its root.
    #[n(8)]
    pub read_only: bool,
    /// The interface's hardware address, such as `02:00:00:00:00:01`; `None` leaves the one the device has.
    #[n(9)]
    pub hardware_address: Option<String>,
    /// The interface's link has one other end and no neighbours to ask: nothing is resolved on it (no ARP).
    #[n(10)]
    pub is_point_to_point: bool,
    /// Most processes and threads of the workload at a time; `None` is no limit.
    #[n(11)]
    pub pids_max: Option<u32>,
}

/// One mount inside a guest.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct GuestMount {
    /// What it is mounted from: a block device's serial, or a tag of a shared directory; empty for memory.
    #[n(0)]
    pub source: String,
    /// `ext4`, `virtiofs` or `tmpfs`.
    #[n(1)]
    pub kind: String,
    /// Where, absolute.
    #[n(2)]
    pub target: String,
    /// Whether the workload may only read it.
    #[n(3)]
    pub read_only: bool,
    /// Most bytes, for memory; 0 is the kernel's default.
    #[n(4)]
    pub size_bytes: u64,
}

/// What the guest's kernel says that it uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Stats {
    /// Memory that the guest has, in bytes.
    #[n(0)]
    pub memory_total_bytes: u64,
    /// Memory that it could still give to programs, in bytes.
    #[n(1)]
    pub memory_available_bytes: u64,
    /// CPU time of everything in it since its boot, in microseconds.
    #[n(2)]
    pub cpu_usage_us: u64,
    /// Processes and threads.
    #[n(3)]
    pub pids: u32,
    /// Bytes that the workload has written to its disk and not removed.
    #[n(4)]
    pub disk_used_bytes: u64,
    /// Most bytes that its disk can hold.
    #[n(5)]
    pub disk_total_bytes: u64,
}
