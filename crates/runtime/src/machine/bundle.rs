//! An image and a [`WorkloadSpec`] become the specification of a machine, as `bundle` makes them a container's.
//! It refuses what a machine can't give yet, by name, rather than to run a workload without it.

use std::{
    fs,
    io::{self, Write},
    net::IpAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use hypercore_model::{
    CpuMillis, Digest, MemoryBytes, VolumeName, WorkloadId, WorkloadSpec,
    limits::MICROVM_MEMORY_BYTES_DEFAULT,
    machine::{
        Accelerator, MachineDisk, MachineNetwork, MachineProcess, MachineSpec, Monitor, MonitorVersion,
    },
};
use oci_spec::image::ImageConfiguration;

use super::{
    boot::{self, Boot},
    disk::DiskError,
    initramfs::InitramfsError,
    kernel::Kernel,
    root_image::RootImageError,
    snapshot::{Lent, SnapshotError},
    storage::Storage,
    vmlinux::VmlinuxError,
};
use crate::{
    bundle::{self, Bundle, BundleError},
    network::{Attachment, HostsFiles},
    volume::{VolumeError, VolumeStore},
};

/// Least memory that a guest's kernel and a small program fit into, in bytes.
const MEMORY_MIN: u64 = 128 << 20;

/// What runs machines on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// Which kind of monitor.
    pub monitor: Monitor,
    /// Its program.
    pub program: PathBuf,
    /// Of which release that is.
    pub version: MonitorVersion,
    /// What runs the guests' instructions.
    pub accelerator: Accelerator,
    /// The guests' kernel.
    pub kernel: Kernel,
    /// The guest agent's program.
    pub agent: PathBuf,
    /// Where what machines share is kept: initramfs, images, empty disks.
    pub cache: PathBuf,
    /// How long a guest may take to its first word.
    pub boot_time_max: Duration,
}

/// Everything that makes one machine.
#[derive(Debug, Clone)]
pub struct MachineRequest<'a> {
    /// Whose machine it is.
    pub id: WorkloadId,
    /// What was asked for.
    pub spec: &'a WorkloadSpec,
    /// What the image says.
    pub image: &'a ImageConfiguration,
    /// Which image it is.
    pub image_digest: &'a Digest,
    /// The image's unpacked layers, bottom first.
    pub layers: &'a [PathBuf],
    /// The workload's own directory, with its `hosts` and `resolv.conf`; absolute.
    pub directory: &'a Path,
    /// Where the specification goes.
    pub machine_directory: &'a Path,
    /// Its place on the network.
    pub attachment: &'a Attachment,
    /// The host's end of its link.
    pub link_name: &'a str,
    /// The workload's cgroup, relative to the mounts of the hierarchies, beginning with `/`.
    pub cgroup_path: &'a str,
    /// The node's volumes.
    pub volumes: &'a VolumeStore,
    /// Directories of the node itself, which no workload may have.
    pub reserved: &'a [PathBuf],
    /// What it goes on from; `None` boots the image.
    pub resume: Option<&'a Lent>,
}

/// Why there is no machine.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// Something of the image or the spec, as for containers.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// Something that only containers have.
    #[error("{0} can't be given to a microVM")]
    Unsupported(&'static str),
    /// A directory of the host, with a monitor that can't share any.
    #[error("a directory of the host can't be given to a microVM of {}", .0.as_str())]
    NoSharing(Monitor),
    /// A directory of the host, without the program that serves it.
    #[error("a directory of the host needs virtiofsd, which is not installed")]
    NoFileServer,
    /// One volume twice, in two ways.
    #[error("the volume {0} can't be mounted both to write and to read only")]
    TwoWays(VolumeName),
    /// A volume can't be used.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// What was lent of a snapshot.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// Too little for a kernel.
    #[error("{0} of memory are too little for a microVM: its kernel needs at least 128MiB")]
    Memory(MemoryBytes),
    /// The initramfs.
    #[error(transparent)]
    Initramfs(#[from] InitramfsError),
    /// The kernel as a program.
    #[error(transparent)]
    Kernel(#[from] VmlinuxError),
    /// The image as a filesystem.
    #[error("the image can't be made a filesystem")]
    RootImage(#[from] RootImageError),
    /// The machine's own disk.
    #[error("the machine's disk can't be made")]
    Disk(#[from] DiskError),
    /// A file of the bundle.
    #[error("{} can't be used", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Makes what the machine boots from, and writes its specification. May be repeated: what is there is used again, and
/// what the machine wrote stays. Blocks; for some milliseconds when the image was run before.
///
/// # Errors
/// [`MachineError`] by step; [`MachineError::Unsupported`] and [`MachineError::Memory`] are mistakes of who asked.
pub fn prepare(request: &MachineRequest<'_>, platform: &Platform) -> Result<Bundle, MachineError> {
    check(request.spec)?;
    let process = process(request)?;
    let stop_signal = bundle::stop_signal(request.spec, request.image)?;
    let boot = Boot::of(request, platform)?;
    let storage = Storage::of(request, platform.monitor)?;
    let spec = request.spec;
    let machine = MachineSpec {
        monitor: platform.monitor,
        program: platform.program.clone(),
        accelerator: platform.accelerator,
        kernel: boot.kernel,
        initrd: boot.initrd,
        cpus: cpus(spec),
        memory_mib: memory_mib(spec),
        cpu_millis: spec.cpu.map(CpuMillis::millis),
        disks: [
            MachineDisk { serial: "image".to_owned(), path: boot.image, read_only: true },
            MachineDisk { serial: "writable".to_owned(), path: boot.writable, read_only: false },
        ]
        .into_iter()
        .chain(storage.disks)
        .collect(),
        shares: storage.shares,
        io: spec.io,
        network: Some(network(request)?),
        hostname: bundle::hostname(request.id, spec),
        read_only: spec.read_only_rootfs,
        mounts: storage.mounts,
        process,
        pids_max: Some(spec.pids_max),
        cgroup: request.cgroup_path.into(),
        console_log: request.directory.join("console.log"),
        oom_events: request.directory.join("oom"),
        boot_time_max_ms: u64::try_from(platform.boot_time_max.as_millis()).unwrap_or(u64::MAX),
        resume: boot.resume,
        // The ids that a container of this workload would have.
        monitor_id: Some(bundle::Mapping::first_of(request.attachment.address)),
    };
    write(request.machine_directory, &machine)?;
    boot::remember(&machine, request, platform)?;
    Ok(Bundle { directory: request.directory.to_owned(), stop_signal })
}

/// Virtual CPUs of a workload's machine.
#[must_use]
pub fn cpus(spec: &WorkloadSpec) -> u32 {
    spec.cpu.map_or(1, |cpu| cpu.millis().div_ceil(1000))
}

/// Memory of a workload's machine, in MiB.
#[must_use]
pub fn memory_mib(spec: &WorkloadSpec) -> u32 {
    let bytes = spec.memory.map_or(MICROVM_MEMORY_BYTES_DEFAULT, MemoryBytes::bytes);
    u32::try_from(bytes >> 20).unwrap_or(u32::MAX)
}

fn check(spec: &WorkloadSpec) -> Result<(), MachineError> {
    for (what, is_wanted) in [
        ("a user namespace", spec.user_namespace),
        ("capabilities", !spec.cap_add.is_empty() || !spec.cap_drop.is_empty()),
        ("resource limits of single processes", !spec.ulimits.is_empty()),
        ("a small init", spec.init),
    ] {
        if is_wanted {
            return Err(MachineError::Unsupported(what));
        }
    }
    match spec.memory {
        Some(memory) if memory.bytes() < MEMORY_MIN => Err(MachineError::Memory(memory)),
        _ => Ok(()),
    }
}

fn process(request: &MachineRequest<'_>) -> Result<MachineProcess, MachineError> {
    let (spec, image) = (request.spec, request.image);
    let argv = bundle::argv(spec, image).ok_or(BundleError::NoCommand)?;
    let workdir = bundle::workdir(spec, image)?;
    let of_image = image.config().as_ref().and_then(|config| config.user().clone());
    Ok(MachineProcess {
        argv,
        env: bundle::environment(request.id, spec, image),
        workdir: workdir.to_string_lossy().into_owned(),
        user: spec.user.clone().or(of_image).unwrap_or_default(),
        tty: spec.tty,
        stdin_open: spec.stdin_open,
    })
}

fn network(request: &MachineRequest<'_>) -> Result<MachineNetwork, MachineError> {
    let read =
        |path: PathBuf| fs::read_to_string(&path).map_err(|source| MachineError::File { path, source });
    let files = HostsFiles::within(request.directory);
    let given = request.attachment;
    Ok(MachineNetwork {
        tap: request.link_name.to_owned(),
        netns: given.netns.clone(),
        hardware_address: given.hardware_address(),
        addresses: given.addresses().map(|(address, _, prefix_len)| (address, prefix_len)).collect(),
        gateways: given.addresses().map(|(_, gateway, _)| gateway).collect::<Vec<IpAddr>>(),
        resolv_conf: read(files.resolv_conf)?,
        hosts: read(files.hosts)?,
    })
}

/// Writes the specification where nobody but root can read it.
fn write(directory: &Path, machine: &MachineSpec) -> Result<(), MachineError> {
    let path = directory.join("machine.json");
    let written = || {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let mut file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        // At once: written in pieces, each is a system call.
        file.write_all(&serde_json::to_vec(machine)?)
    };
    written().map_err(|source| MachineError::File { path: path.clone(), source })
}
