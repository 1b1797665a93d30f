//! Cloud Hypervisor as the machine's monitor: given a machine by its API, then told to boot it; or to restore one from
//! a snapshot, whose memory it copies. The guest is reached over vsock. It needs KVM, an ELF kernel, and a TAP device
//! that it opens by its name.

mod client;
mod snapshot;
mod types;

use std::{
    fs::File,
    io,
    os::{
        fd::BorrowedFd,
        unix::{fs::OpenOptionsExt, net::UnixStream},
    },
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use hypercore_model::machine::{MachineDisk, MachineNetwork, MachineShare, MachineSpec, Monitor};

use self::{
    client::Client,
    types::{
        BalloonConfig, ConsoleConfig, ConsoleMode, CpusConfig, DiskConfig, FsConfig, ImageType, MemoryConfig,
        NetConfig, PayloadConfig, RateLimitGroupConfig, RateLimiterConfig, RestoreConfig, RngConfig,
        TokenBucket, VmConfig, VmSnapshotConfig, VmState, VsockConfig,
    },
};
use super::{
    api, shares,
    vmm::{KERNEL_ARGUMENTS, Place, Saved, Vmm, VmmError},
    vsock,
};

/// The name of the one network device.
const INTERFACE: &str = "net0";
/// The name of what all disks may do together.
const DISKS_GROUP: &str = "disks";
/// How long a request may take that only changes what runs.
const ORDER_TIME_MAX: Duration = Duration::from_secs(10);
/// How long it may take to write a machine's memory.
const SAVE_TIME_MAX: Duration = Duration::from_secs(120);

/// Cloud Hypervisor.
#[derive(Debug)]
pub(super) struct CloudHypervisor;

impl Vmm for CloudHypervisor {
    fn opens_tap(&self) -> bool {
        true
    }

    fn command(
        &self,
        spec: &MachineSpec,
        place: &Place,
        _tap: Option<BorrowedFd<'_>>,
    ) -> Result<Command, VmmError> {
        // Its own messages go to the end of the guest's: who asks why a machine doesn't boot is shown both.
        let console = File::options().create(true).append(true).mode(0o600).open(&spec.console_log);
        let console = console.map_err(|source| VmmError::File { path: spec.console_log.clone(), source })?;
        let mut command = Command::new(&spec.program);
        command.env_clear().current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(console);
        // Filters of system calls are on by default, and kill what leaves them.
        command.arg("--api-socket").arg(format!("path={}", place.control().display()));
        Ok(command)
    }

    fn begin(
        &self,
        spec: &MachineSpec,
        place: &Place,
        process: &mut Child,
        deadline: Instant,
    ) -> Result<(), VmmError> {
        let socket = place.control();
        let client = Client::new(&socket, deadline);
        let pong = api::first_answer(process, deadline, || client.ping())?;
        let printed = format!("cloud-hypervisor v{}", pong.version.trim_start_matches('v'));
        Monitor::CloudHypervisor
            .check_version(&printed)
            .map_err(|error| VmmError::Garbled { step: "say who it is", problem: error.to_string() })?;
        let config = config(spec, place);
        match &spec.resume {
            None => {
                client.create(&config)?;
                client.boot()
            }
            Some(resume) => {
                let source = snapshot::adapt(&resume.directory, place.directory(), &config)?;
                // What isn't touched need not be there at once.
                client.restore(&RestoreConfig { source_url: url(&source), prefault: false })?;
                client.resume()
            }
        }?;
        match client.info()?.state {
            VmState::Running => Ok(()),
            state => {
                let problem = format!("a machine that was begun is {state:?}");
                Err(VmmError::Garbled { step: "boot the machine", problem })
            }
        }
    }

    fn dial(&self, place: &Place) -> io::Result<UnixStream> {
        vsock::dial(&place.guest())
    }

    fn pause(&self, place: &Place) -> Result<(), VmmError> {
        Client::new(&place.control(), Instant::now() + ORDER_TIME_MAX).pause()
    }

    fn go_on(&self, place: &Place) -> Result<(), VmmError> {
        Client::new(&place.control(), Instant::now() + ORDER_TIME_MAX).resume()
    }

    fn save(&self, place: &Place, directory: &Path) -> Result<Saved, VmmError> {
        snapshot::collect(directory, |whole| {
            let body = VmSnapshotConfig { destination_url: url(whole) };
            Client::new(&place.control(), Instant::now() + SAVE_TIME_MAX).snapshot(&body)
        })?;
        Ok(Saved { is_mapped: true })
    }
}

fn url(directory: &Path) -> String {
    format!("file://{}", directory.display())
}

fn config(spec: &MachineSpec, place: &Place) -> VmConfig {
    let group = disks_group(spec);
    VmConfig {
        cpus: CpusConfig { boot_vcpus: spec.cpus, max_vcpus: spec.cpus },
        memory: MemoryConfig { size: u64::from(spec.memory_mib) << 20, shared: !spec.shares.is_empty() },
        payload: PayloadConfig {
            kernel: text(&spec.kernel),
            initramfs: text(&spec.initrd),
            cmdline: KERNEL_ARGUMENTS.to_owned(),
        },
        disks: spec.disks.iter().map(|each| disk(each, group.is_some())).collect(),
        rate_limit_groups: group.into_iter().collect(),
        net: spec.network.iter().map(interface).collect(),
        fs: spec.shares.iter().map(|share| directory(share, place)).collect(),
        rng: RngConfig { src: "/dev/urandom".to_owned() },
        // Nothing is taken away; what the guest doesn't use is given back.
        balloon: BalloonConfig { size: 0, deflate_on_oom: true, free_page_reporting: true },
        serial: ConsoleConfig { mode: ConsoleMode::File, file: Some(text(&spec.console_log)) },
        console: ConsoleConfig { mode: ConsoleMode::Off, file: None },
        vsock: VsockConfig { cid: vsock::GUEST_CID, socket: text(&place.guest()) },
    }
}

fn disk(disk: &MachineDisk, is_limited: bool) -> DiskConfig {
    DiskConfig {
        id: format!("disk-{}", disk.serial),
        path: text(&disk.path),
        readonly: disk.read_only,
        serial: disk.serial.clone(),
        image_type: ImageType::Raw,
        rate_limit_group: is_limited.then(|| DISKS_GROUP.to_owned()),
    }
}

/// One queue, of the length that is also its default there.
fn directory(share: &MachineShare, place: &Place) -> FsConfig {
    FsConfig {
        tag: share.tag.clone(),
        socket: text(&shares::socket(place.directory(), &share.tag)),
        num_queues: 1,
        queue_size: 1024,
    }
}

fn interface(network: &MachineNetwork) -> NetConfig {
    NetConfig { id: INTERFACE.to_owned(), tap: network.tap.clone(), mac: network.hardware_address.clone() }
}

/// What all disks may do together. What the network may do is limited on the host.
fn disks_group(spec: &MachineSpec) -> Option<RateLimitGroupConfig> {
    let bucket = |rate| TokenBucket { size: rate, refill_time: 1000 };
    let (bandwidth, ops) = (spec.io.disk_bytes_per_s.map(bucket), spec.io.disk_ops_per_s.map(bucket));
    (bandwidth.is_some() || ops.is_some()).then(|| RateLimitGroupConfig {
        id: DISKS_GROUP.to_owned(),
        rate_limiter_config: RateLimiterConfig { bandwidth, ops },
    })
}

/// A path as its API takes it; ours are all of ASCII.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
