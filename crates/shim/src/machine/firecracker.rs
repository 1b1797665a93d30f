//! Firecracker as the machine's monitor, in its jail: configured by its API, one request for each part, then booted;
//! or loaded from a snapshot, whose memory it maps. The guest is reached over vsock. It needs KVM, an ELF kernel, and a
//! TAP device that it opens by its name.

mod client;
mod jail;
mod types;

use std::{
    io,
    os::{fd::BorrowedFd, unix::net::UnixStream},
    path::Path,
    process::{Child, Command},
    time::{Duration, Instant},
};

use hypercore_model::machine::{MachineSpec, Monitor};

use self::{
    client::Client,
    jail::Jail,
    types::{
        BackendType, Balloon, BootSource, CacheType, Drive, InstanceState, MachineConfiguration,
        MemoryBackend, NetworkInterface, NetworkOverride, RateLimiter, SnapshotCreate, SnapshotLoad,
        SnapshotType, TokenBucket, Vsock, VsockOverride,
    },
};
use super::{
    api,
    vmm::{KERNEL_ARGUMENTS, MEMORY_FILE, Place, STATE_FILE, Saved, Vmm, VmmError},
    vsock,
};

pub(super) use jail::clear;

/// What the kernel is told besides: not to look for keyboards that aren't there. A guest ends by a reset, because there
/// is no other way to turn this machine off.
const OWN_ARGUMENTS: &str = "i8042.noaux i8042.nomux i8042.dumbkbd hypercore.end=reset";
/// The name of the one network interface.
const INTERFACE: &str = "net0";
/// Most processors of a machine (`MachineConfiguration.vcpu_count`).
const CPUS_MAX: u32 = 32;
/// How long a request may take that only changes what runs.
const ORDER_TIME_MAX: Duration = Duration::from_secs(10);
/// How long it may take to write a machine's memory.
const SAVE_TIME_MAX: Duration = Duration::from_secs(120);

/// Firecracker.
#[derive(Debug)]
pub(super) struct Firecracker;

impl Vmm for Firecracker {
    fn opens_tap(&self) -> bool {
        true
    }

    /// It resets the guest's socket when it saves.
    fn keeps_connection(&self) -> bool {
        false
    }

    fn command(
        &self,
        spec: &MachineSpec,
        place: &Place,
        _tap: Option<BorrowedFd<'_>>,
    ) -> Result<Command, VmmError> {
        let refused = |what| VmmError::Unsupported { monitor: Monitor::Firecracker, what };
        if !spec.shares.is_empty() {
            return Err(refused("share a directory of the host"));
        }
        if spec.cpus > CPUS_MAX {
            return Err(refused("give a machine more than 32 CPUs"));
        }
        Jail::make(spec, place)
    }

    fn begin(
        &self,
        spec: &MachineSpec,
        place: &Place,
        process: &mut Child,
        deadline: Instant,
    ) -> Result<(), VmmError> {
        let socket = Jail::of(place).path(jail::API_SOCKET);
        let client = Client::new(&socket, deadline);
        let info = api::first_answer(process, deadline, || client.describe())?;
        let printed = format!("Firecracker v{}", info.vmm_version);
        Monitor::Firecracker
            .check_version(&printed)
            .map_err(|error| VmmError::Garbled { step: "say how it is", problem: error.to_string() })?;
        if info.state != InstanceState::NotStarted {
            let problem = format!("a new machine is {:?}", info.state);
            return Err(VmmError::Garbled { step: "say how it is", problem });
        }
        match spec.resume {
            Some(_) => load(&client, spec),
            None => boot(&client, spec),
        }
    }

    fn dial(&self, place: &Place) -> io::Result<UnixStream> {
        vsock::dial(&Jail::of(place).path(jail::VSOCK))
    }

    fn pause(&self, place: &Place) -> Result<(), VmmError> {
        let socket = Jail::of(place).path(jail::API_SOCKET);
        Client::new(&socket, Instant::now() + ORDER_TIME_MAX).pause()
    }

    fn go_on(&self, place: &Place) -> Result<(), VmmError> {
        let socket = Jail::of(place).path(jail::API_SOCKET);
        Client::new(&socket, Instant::now() + ORDER_TIME_MAX).resume()
    }

    fn save(&self, place: &Place, directory: &Path) -> Result<Saved, VmmError> {
        let jail = Jail::of(place);
        let socket = jail.path(jail::API_SOCKET);
        Client::new(&socket, Instant::now() + SAVE_TIME_MAX).create_snapshot(&SnapshotCreate {
            snapshot_type: SnapshotType::Full,
            snapshot_path: jail::SAVED_STATE,
            mem_file_path: jail::SAVED_MEMORY,
        })?;
        jail.take(jail::SAVED_STATE, &directory.join(STATE_FILE))?;
        jail.take(jail::SAVED_MEMORY, &directory.join(MEMORY_FILE))?;
        Ok(Saved { is_mapped: true })
    }
}

fn boot(client: &Client<'_>, spec: &MachineSpec) -> Result<(), VmmError> {
    client.put_machine_configuration(&MachineConfiguration {
        vcpu_count: spec.cpus,
        mem_size_mib: spec.memory_mib,
    })?;
    client.put_boot_source(&BootSource {
        kernel_image_path: jail::KERNEL,
        initrd_path: jail::INITRD,
        boot_args: &kernel_arguments(spec),
    })?;
    let limit = disk_limiter(spec);
    for (index, disk) in spec.disks.iter().enumerate() {
        let name = jail::disk(index);
        client.put_drive(&Drive {
            drive_id: &name,
            path_on_host: &name,
            is_root_device: false,
            is_read_only: disk.read_only,
            cache_type: if disk.read_only { CacheType::Unsafe } else { CacheType::Writeback },
            rate_limiter: limit,
        })?;
    }
    if let Some(network) = &spec.network {
        client.put_network_interface(&NetworkInterface {
            iface_id: INTERFACE,
            host_dev_name: &network.tap,
            guest_mac: &network.hardware_address,
        })?;
    }
    client.put_vsock(&Vsock { guest_cid: vsock::GUEST_CID, uds_path: jail::VSOCK })?;
    client.put_entropy()?;
    // Nothing is taken away; what the guest doesn't use is given back.
    client.put_balloon(&Balloon { amount_mib: 0, deflate_on_oom: true, free_page_reporting: true })?;
    client.start()
}

fn load(client: &Client<'_>, spec: &MachineSpec) -> Result<(), VmmError> {
    let overrides = spec
        .network
        .iter()
        .map(|network| NetworkOverride { iface_id: INTERFACE, host_dev_name: &network.tap });
    client.load_snapshot(&SnapshotLoad {
        snapshot_path: jail::STATE,
        mem_backend: MemoryBackend { backend_type: BackendType::File, backend_path: jail::MEMORY },
        network_overrides: overrides.collect(),
        vsock_override: VsockOverride { uds_path: jail::VSOCK },
        resume_vm: true,
    })
}

/// Its disks have no serials of ours: their order says which is which.
fn kernel_arguments(spec: &MachineSpec) -> String {
    let serials: Vec<_> = spec.disks.iter().map(|disk| disk.serial.as_str()).collect();
    format!("{KERNEL_ARGUMENTS} {OWN_ARGUMENTS} hypercore.disks={}", serials.join(","))
}

/// Each disk gets an equal part of what all may do together: limiters are not shared between them. What the network
/// may do is limited on the host.
fn disk_limiter(spec: &MachineSpec) -> Option<RateLimiter> {
    let disks = u64::try_from(spec.disks.len()).unwrap_or(u64::MAX).max(1);
    let bucket = |rate: u64| TokenBucket { size: (rate / disks).max(1), refill_time: 1000 };
    let (bandwidth, ops) = (spec.io.disk_bytes_per_s.map(bucket), spec.io.disk_ops_per_s.map(bucket));
    (bandwidth.is_some() || ops.is_some()).then_some(RateLimiter { bandwidth, ops })
}

#[cfg(test)]
mod tests;
