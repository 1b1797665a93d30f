//! Makes the machine what its workload's shall be: root, name, time, randomness, network, mounts. A clone is made
//! another one by the same steps, but for the root that it has already.

use std::{
    fs, io,
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use hypercore_wire::message::{GuestMount, Prepare};
use nix::{
    mount::MsFlags,
    sys::time::TimeSpec,
    time::{ClockId, clock_settime},
    unistd::sethostname,
};

use crate::{
    cgroup, entropy, identity, inside,
    network::{self, NetworkError},
    root::{self, ROOT, RootError},
};

/// Which step failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareError {
    /// The workload's root.
    #[error("the root: {0}")]
    Root(#[from] RootError),
    /// The name of the machine.
    #[error("the host name: {0}")]
    Hostname(#[source] io::Error),
    /// A file in the workload's `/etc`.
    #[error("{0} can't be written: {1}")]
    File(&'static str, #[source] io::Error),
    /// The clock.
    #[error("the clock can't be set: {0}")]
    Clock(#[source] io::Error),
    /// The kernel's random number generator.
    #[error("the random number generator takes no entropy: {0}")]
    Entropy(#[source] io::Error),
    /// The network.
    #[error("the network: {0}")]
    Network(#[from] NetworkError),
    /// A mount on the root.
    #[error("{target} can't be mounted on: {source}")]
    Target {
        /// Where.
        target: String,
        /// Why not.
        source: io::Error,
    },
    /// The workload's control group.
    #[error("its processes can't be limited, for which the guest's kernel needs CONFIG_CGROUP_PIDS: {0}")]
    Pids(#[source] io::Error),
    /// The same, after a snapshot.
    #[error("the workload can't go on: {0}")]
    Thaw(#[source] io::Error),
    /// The machine's id.
    #[error("/etc/machine-id can't be written: {0}")]
    Identity(#[source] io::Error),
    /// A kind of mount that this agent doesn't know.
    #[error("mounts of the kind `{0}` are not known to this guest")]
    Kind(String),
}

/// Applies everything. `is_again` says that the root is there: the machine is a clone, or came from a snapshot.
pub(crate) fn apply(wanted: &Prepare, is_again: bool) -> Result<(), PrepareError> {
    set_clock(wanted.now_ms).map_err(PrepareError::Clock)?;
    entropy::add(&wanted.entropy).map_err(PrepareError::Entropy)?;
    sethostname(&wanted.hostname).map_err(|error| PrepareError::Hostname(error.into()))?;
    if !is_again {
        root::assemble()?;
    }
    network::configure(wanted, is_again)?;
    if is_again {
        return rename(wanted);
    }
    write_files(wanted)?;
    for mount in &wanted.mounts {
        add_mount(mount)?;
    }
    if wanted.read_only {
        root::seal()?;
    }
    // Without a limit, a kernel that can't make groups only can't stop them for a snapshot.
    let grouped = cgroup::make();
    let limited = |pids_max| grouped.and_then(|()| cgroup::limit(pids_max));
    wanted.pids_max.map_or(Ok(()), limited).map_err(PrepareError::Pids)
}

/// Tells the workload's files that the machine is another one.
fn rename(wanted: &Prepare) -> Result<(), PrepareError> {
    if wanted.read_only {
        root::unseal()?;
    }
    let written = write_files(wanted).and_then(|()| identity::renew().map_err(PrepareError::Identity));
    if wanted.read_only {
        root::seal()?;
    }
    written
}

fn set_clock(now_ms: u64) -> io::Result<()> {
    // The Unix epoch is no time that a host has; it stands for "unchanged" in tests of single steps.
    let now = UNIX_EPOCH + Duration::from_millis(now_ms);
    let since_epoch = now.duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
    Ok(clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::from_duration(since_epoch))?)
}

fn write_files(wanted: &Prepare) -> Result<(), PrepareError> {
    let hostname = format!("{}\n", wanted.hostname);
    for (path, text) in [
        ("/etc/resolv.conf", wanted.resolv_conf.as_str()),
        ("/etc/hosts", &wanted.hosts),
        ("/etc/hostname", &hostname),
    ] {
        if !text.is_empty() {
            inside::replace(path, text).map_err(|error| PrepareError::File(path, error))?;
        }
    }
    Ok(())
}

fn add_mount(wanted: &GuestMount) -> Result<(), PrepareError> {
    let failed = |source| PrepareError::Target { target: wanted.target.clone(), source };
    inside::make_directories(&wanted.target).map_err(failed)?;
    // The target's own descriptor, so that a link in the image can't turn the mount elsewhere between two looks.
    let flags = nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_DIRECTORY;
    let directory = inside::open(&wanted.target, flags).map_err(failed)?;
    let target = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&directory));
    debug_assert!(fs::read_link(&target).is_ok_and(|path| path.starts_with(ROOT)));
    let mut flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    flags.set(MsFlags::MS_RDONLY, wanted.read_only);
    match wanted.kind.as_str() {
        "ext4" => root::attach(&root::disk(&wanted.source)?, &target, "ext4", flags, "")?,
        "virtiofs" => root::attach(Path::new(&wanted.source), &target, "virtiofs", flags, "")?,
        "tmpfs" => {
            let size =
                if wanted.size_bytes > 0 { format!("size={}", wanted.size_bytes) } else { String::new() };
            root::attach(Path::new("tmpfs"), &target, "tmpfs", flags | MsFlags::MS_NOEXEC, &size)?;
        }
        kind => return Err(PrepareError::Kind(kind.to_owned())),
    }
    Ok(())
}
