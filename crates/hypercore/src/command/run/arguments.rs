//! The flags of `run`, as they are typed. Each is read into the model's own type; `spec` joins them.

use std::{num::NonZeroU16, path::PathBuf, time::Duration};

use clap::{ArgAction, Args};
use hypercore_model::{
    Allowance, Capability, CpuMillis, ImageReference, Isolation, MemoryBytes, Mount, PortMapping,
    RestartPolicy, TenantName, Ulimit, WorkloadName, io_limits, machine::Monitor, units,
};

use crate::signal::SignalNumber;

const EXAMPLES: &str = "\
Examples:
  hypercore run --rm busybox -- echo hello
  hypercore run -d --name web -p 8080:80 nginx     in the background; prints the id
  hypercore run --rm -it busybox                   a shell; leave it running with ctrl-p ctrl-q
  hypercore run --cpu 0.5 --memory 256MiB -e MODE=test --env-file ./env job:1";

/// Run an image
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunArgs {
    /// [REGISTRY/]NAME[:TAG][@DIGEST]
    #[arg(value_name = "IMAGE")]
    pub(super) image: ImageReference,
    /// What to run instead of the image's own arguments
    #[arg(value_name = "CMD", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(super) command: Vec<String>,
    /// Leave it running in the background and print its id
    #[arg(short, long)]
    pub(super) detach: bool,
    /// Remove it when it has ended
    #[arg(long)]
    pub(super) rm: bool,
    /// Give it our standard input
    #[arg(short, long)]
    pub(super) interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub(super) tty: bool,
    /// A name, unique while the workload exists
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<WorkloadName>,
    /// Publish a port: HOST:PORT, or PORT for a free host port; /udp for UDP
    #[arg(short, long, value_name = "[HOST:]PORT")]
    pub(super) publish: Vec<PortMapping>,
    /// CPUs it may use at most, such as 0.5
    #[arg(long, visible_alias = "cpus", value_name = "CPUS")]
    pub(super) cpu: Option<CpuMillis>,
    /// Memory it may use at most, such as 256MiB
    #[arg(short, long, visible_alias = "mem", value_name = "SIZE")]
    pub(super) memory: Option<MemoryBytes>,
    /// Processes and threads it may have at most [default: 4096]
    #[arg(long, visible_alias = "pids-limit", value_name = "N")]
    pub(super) pids: Option<u32>,
    /// Set an environment variable; KEY alone takes ours
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub(super) env: Vec<String>,
    /// Read environment variables from a file, one per line
    #[arg(long, value_name = "FILE")]
    pub(super) env_file: Vec<PathBuf>,
    /// Mark it with a label
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub(super) label: Vec<String>,
    /// Mount what it needs: VOLUME:TARGET or /HOST/PATH:TARGET, with :ro to read only
    #[arg(short = 'v', long, value_name = "SOURCE:TARGET[:ro]", help_heading = "Storage")]
    pub(super) volume: Vec<Mount>,
    /// Mount memory at TARGET
    #[arg(long, value_name = "TARGET[:size=SIZE]", value_parser = Mount::tmpfs, help_heading = "Storage")]
    pub(super) tmpfs: Vec<Mount>,
    /// What a microVM can write besides its image and its mounts [default: 10GiB]
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, help_heading = "Storage")]
    pub(super) disk_size: Option<u64>,
    /// What a microVM's disks may move together, such as 20MiB
    #[arg(long, value_name = "BYTES/s", value_parser = parse_rate, help_heading = "Storage")]
    pub(super) disk_rate: Option<u64>,
    /// Operations that a microVM's disks may do together, a second
    #[arg(long, value_name = "N", help_heading = "Storage")]
    pub(super) disk_iops: Option<u64>,
    /// What its network may move in each direction, such as 10MiB
    #[arg(long, value_name = "BYTES/s", value_parser = parse_rate, help_heading = "Boundaries")]
    pub(super) net_rate: Option<u64>,
    /// Let it write nowhere but on what is mounted
    #[arg(long, help_heading = "Storage")]
    pub(super) read_only: bool,
    /// Start it again when it ends by itself: no, on-failure[:COUNT], always
    #[arg(long, value_name = "POLICY", default_value_t, help_heading = "Lifetime")]
    pub(super) restart: RestartPolicy,
    /// Stop it this long after its creation, such as 90s or 1h
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Lifetime")]
    pub(super) ttl: Option<Duration>,
    /// The signal that asks it to end [default: the image's, or TERM]
    #[arg(long, value_name = "SIGNAL", help_heading = "Lifetime")]
    pub(super) stop_signal: Option<SignalNumber>,
    /// Seconds it gets to end before it is killed [default: 10]
    #[arg(long, value_name = "SECONDS", help_heading = "Lifetime")]
    pub(super) stop_timeout: Option<u32>,
    /// Put a small init before it, which forwards signals and reaps orphans
    #[arg(long, help_heading = "Lifetime")]
    pub(super) init: bool,
    /// Whose it is: workloads of one tenant reach each other, others don't
    #[arg(long, value_name = "NAME", default_value_t, help_heading = "Boundaries")]
    pub(super) tenant: TenantName,
    /// Let its network reach: host (the node's own ports), metadata (link-local addresses), tenants (others' workloads)
    #[arg(long, value_name = "WHAT", help_heading = "Boundaries")]
    pub(super) allow: Vec<Allowance>,
    /// The port that the ingress leads to [default: the first published one, or the image's first]
    #[arg(long, value_name = "PORT", help_heading = "Boundaries")]
    pub(super) route_port: Option<NonZeroU16>,
    /// Limit a resource of each process, such as nofile=1024:2048
    #[arg(long, value_name = "NAME=SOFT[:HARD]", help_heading = "Boundaries")]
    pub(super) ulimit: Vec<Ulimit>,
    /// Give it a capability it would not have; ALL for every one
    #[arg(long, value_name = "CAPABILITY", help_heading = "Boundaries")]
    pub(super) cap_add: Vec<Capability>,
    /// Take a capability away; ALL for every one
    #[arg(long, value_name = "CAPABILITY", help_heading = "Boundaries")]
    pub(super) cap_drop: Vec<Capability>,
    /// Map its users to unprivileged ones of the host, root too
    #[arg(long = "userns", help_heading = "Boundaries")]
    pub(super) user_namespace: bool,
    /// What stands between it and its host
    #[arg(long, value_name = "CLASS", default_value = "container", value_parser = parse_isolation, help_heading = "Boundaries")]
    pub(super) isolation: Isolation,
    /// What runs its machine: firecracker, cloud-hypervisor or qemu [default: what the node runs microVMs with]
    #[arg(long, value_name = "VMM", help_heading = "Boundaries")]
    pub(super) vmm: Option<Monitor>,
    /// The program to run instead of the image's entrypoint
    #[arg(long, value_name = "PROGRAM")]
    pub(super) entrypoint: Option<String>,
    /// Run as this user
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(super) user: Option<String>,
    /// Working directory inside
    #[arg(short, long, value_name = "DIRECTORY")]
    pub(super) workdir: Option<String>,
    /// Host name inside [default: the name, or the short id]
    #[arg(long, value_name = "NAME")]
    pub(super) hostname: Option<WorkloadName>,
    // Replaces the global flag of the same id: after `run`, docker's users mean a volume by `-v`.
    /// Say more about what happens, on stderr
    #[arg(long, action = ArgAction::Count, help_heading = "Global options")]
    pub(super) verbose: u8,
}

impl RunArgs {
    /// Whether the exit code is ours and not the workload's.
    pub(crate) const fn is_detached(&self) -> bool {
        self.detach
    }
}

fn parse_isolation(text: &str) -> Result<Isolation, &'static str> {
    match text {
        "container" => Ok(Isolation::Container),
        "microvm" => Ok(Isolation::MicroVm),
        _ => Err("the classes are `container` and `microvm`"),
    }
}

pub(in crate::command) fn parse_bytes(text: &str) -> Result<u64, &'static str> {
    units::parse_size(text).ok_or("write a size with its unit, such as 512MiB or 20GiB")
}

fn parse_rate(text: &str) -> Result<u64, &'static str> {
    io_limits::parse_rate(text).ok_or("write bytes a second with their unit, such as 10MiB or 10MiB/s")
}

/// A length of time with a unit, as people write it.
fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "write a time with its unit, such as 90s, 15m or 1h".to_owned())
}
