//! The workload's processes as a whole: a control group of the guest's own kernel, which all of them are put into before
//! their programs begin. How many they may be is limited by it, and for a snapshot they are stopped by it.
//! The agent's threads stay outside, so that it can always start one more.
//! It refuses to run a workload without the limit that was asked for.

use std::{
    fs::{self, File},
    io::{self, Read, Seek},
    os::fd::AsFd,
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    mount::{MsFlags, mount},
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

/// Where the hierarchy is mounted, in the initramfs alone.
const HIERARCHY: &str = "/cgroup";
/// The workload's group.
const WORKLOAD: &str = "/cgroup/workload";

/// How long stopping all processes may take: one that waits for a disk goes on until it has it.
const FREEZE_TIME_MAX: Duration = Duration::from_secs(10);

/// Makes the group.
///
/// # Errors
/// A kernel without control groups.
pub(crate) fn make() -> io::Result<()> {
    fs::create_dir_all(HIERARCHY)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let mount_with = |options| mount(Some("cgroup2"), HIERARCHY, Some("cgroup2"), flags, Some(options));
    // Every process that is started joins the group, which without `favordynmods` waits for all processors' readers.
    // Kernels before 6.0 don't know it.
    mount_with("nsdelegate,favordynmods").or_else(|_| mount_with("nsdelegate"))?;
    fs::create_dir(WORKLOAD)
}

/// Limits it. The workload can mount the hierarchy too, but from a namespace whose root the group is: with `nsdelegate`
/// that lets it change nothing of the group itself (cgroup-v2.rst, "Delegation").
///
/// # Errors
/// No group, or a kernel without the `pids` controller.
pub(crate) fn limit(pids_max: u32) -> io::Result<()> {
    fs::write(Path::new(HIERARCHY).join("cgroup.subtree_control"), "+pids")?;
    fs::write(Path::new(WORKLOAD).join("pids.max"), pids_max.to_string())
}

/// How a process joins the group.
#[derive(Debug)]
pub(crate) struct Entrance {
    /// The file through which it does.
    pub(crate) file: File,
    /// It must not see anything above the group, which it could change else.
    pub(crate) is_limited: bool,
}

/// The way into the group; `None` when there is none.
///
/// # Errors
/// The group can't be joined.
pub(crate) fn entrance() -> io::Result<Option<Entrance>> {
    let group = Path::new(WORKLOAD);
    match File::options().write(true).open(group.join("cgroup.procs")) {
        Ok(file) => Ok(Some(Entrance { file, is_limited: group.join("pids.max").exists() })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Stops all processes, and waits until they are.
///
/// # Errors
/// No group, or one that does not come to rest in time; thaw it then.
pub(crate) fn freeze() -> io::Result<()> {
    let deadline = Instant::now() + FREEZE_TIME_MAX;
    fs::write(Path::new(WORKLOAD).join("cgroup.freeze"), "1")?;
    let mut events = File::open(Path::new(WORKLOAD).join("cgroup.events"))?;
    loop {
        let mut text = String::new();
        events.rewind()?;
        events.read_to_string(&mut text)?;
        if text.lines().any(|line| line == "frozen 1") {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        // A change since the last look is what there is to wait for.
        let mut fds = [PollFd::new(events.as_fd(), PollFlags::POLLPRI)];
        poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO))?;
    }
}

/// Lets them go on.
///
/// # Errors
/// What the kernel says. Without a group there is nothing to do.
pub(crate) fn thaw() -> io::Result<()> {
    match fs::write(Path::new(WORKLOAD).join("cgroup.freeze"), "0") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// How many processes and threads the workload has; `None` when nobody counts them.
pub(crate) fn pids() -> Option<u32> {
    fs::read_to_string(Path::new(WORKLOAD).join("pids.current")).ok()?.trim().parse().ok()
}
