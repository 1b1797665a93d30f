//! The workload's cgroup in every hierarchy of the host: v1 controllers, each mounted for itself, and the v2 tree.
//!
//! `libcontainer` could make it, but in a way that costs more than everything else of a start: it moves a process by
//! its pid, for which the kernel waits until no thread of the whole machine is in a fork or an exit (10 ms and more,
//! see `cgroup_attach_lock`), and it reads the whole mount table twice per controller. A process that is *born* into a
//! v2 cgroup, or that moves *itself, as a single thread* in v1, waits for nobody.
//!
//! It refuses paths that lead out of a hierarchy. Controllers that aren't used here (cpuset, net_cls, ...) are left alone.

mod limits;
mod machine;

use std::{
    fs::{self, File},
    io,
    path::{Component, Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        statfs::{CGROUP2_SUPER_MAGIC, statfs},
    },
    unistd::Pid,
};

/// Where hierarchies are mounted.
pub(crate) const MOUNTS: &str = "/sys/fs/cgroup";
/// The v1 controllers that limit, count, freeze or confine a workload.
const CONTROLLERS: [&str; 7] = ["blkio", "cpu", "cpuacct", "devices", "freezer", "memory", "pids"];
/// How long processes that were killed may take to be gone. One in an uninterruptible sleep takes as long as its device.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
/// How often is looked whether they are: v1 has no event for it.
const KILL_POLL: Duration = Duration::from_millis(1);

/// Why a cgroup can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CgroupError {
    /// A path that isn't absolute or has `..`.
    #[error("the cgroup path {0:?} is not absolute and clean")]
    Path(PathBuf),
    /// The mounted hierarchies can't be listed.
    #[error("the cgroup hierarchies can't be listed")]
    List(#[source] io::Error),
    /// A directory can't be made.
    #[error("the cgroup {0:?} can't be made")]
    Make(PathBuf, #[source] io::Error),
    /// Entering failed.
    #[error("the cgroup {0:?} can't be entered")]
    Enter(PathBuf, #[source] io::Error),
    /// Processes survived their kill for too long.
    #[error("processes in the cgroup {0:?} don't end although they were killed")]
    Alive(PathBuf),
    /// The kernel keeps the directory.
    #[error("the cgroup {0:?} can't be removed")]
    Remove(PathBuf, #[source] io::Error),
}

/// One workload's cgroup: its directory in each hierarchy, whether there or not.
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
    v1: Vec<PathBuf>,
    v2: Option<PathBuf>,
}

impl Cgroup {
    /// The cgroup at `path` below the mounts of all hierarchies (`linux.cgroupsPath` of the runtime spec).
    pub(crate) fn at(path: &Path) -> Result<Self, CgroupError> {
        let bad = || CgroupError::Path(path.to_owned());
        let below = path.strip_prefix("/").map_err(|_| bad())?;
        let is_clean = below.components().all(|part| matches!(part, Component::Normal(_)));
        if below.as_os_str().is_empty() || !is_clean {
            return Err(bad());
        }
        let mut cgroup = Self { path: path.to_owned(), v1: Vec::new(), v2: None };
        if is_v2(Path::new(MOUNTS)) {
            cgroup.v2 = Some(Path::new(MOUNTS).join(below));
            return Ok(cgroup);
        }
        for mount in mounts().map_err(CgroupError::List)? {
            if is_v2(&mount) {
                cgroup.v2 = Some(mount.join(below));
            } else if has_used_controller(&mount) {
                cgroup.v1.push(mount.join(below));
            }
        }
        Ok(cgroup)
    }

    /// Makes the directories, without any limit yet.
    pub(crate) fn make(&self) -> Result<(), CgroupError> {
        self.directories().try_for_each(|directory| {
            fs::create_dir_all(directory).map_err(|error| CgroupError::Make(directory.clone(), error))
        })
    }

    /// The v2 directory to be born into, if the host has that tree.
    pub(crate) fn open_v2(&self) -> Result<Option<File>, CgroupError> {
        let open = |path: &PathBuf| File::open(path).map_err(|error| CgroupError::Enter(path.clone(), error));
        self.v2.as_ref().map(open).transpose()
    }

    /// Moves this process, which must have a single thread, into all v1 directories.
    pub(crate) fn enter_v1(&self) -> Result<(), CgroupError> {
        self.v1.iter().try_for_each(|directory| {
            // Zero is whoever writes it: only then, and only by this file, the kernel needs no lock.
            fs::write(directory.join("tasks"), "0")
                .map_err(|error| CgroupError::Enter(directory.clone(), error))
        })
    }

    /// Whether its processes stand still: v1's freezer or v2's.
    pub(crate) fn is_frozen(&self) -> bool {
        let says = |directory: &PathBuf, file: &str, running: &str| {
            fs::read_to_string(directory.join(file)).is_ok_and(|state| state.trim() != running)
        };
        self.v1.iter().any(|directory| says(directory, "freezer.state", "THAWED"))
            || self.v2.iter().any(|directory| says(directory, "cgroup.freeze", "0"))
    }

    /// Kills every process in it, waits until they are gone, and removes it. Fine if it isn't there.
    pub(crate) fn remove(&self) -> Result<(), CgroupError> {
        let deadline = Instant::now() + KILL_TIMEOUT;
        while self.kill() {
            if Instant::now() > deadline {
                return Err(CgroupError::Alive(self.path.clone()));
            }
            thread::sleep(KILL_POLL);
        }
        self.directories().try_for_each(|directory| remove_tree(directory, deadline))
    }

    /// Kills what is in it now; false if nothing was. Frozen meanwhile, so that nothing escapes by forking.
    fn kill(&self) -> bool {
        let mut pids: Vec<i32> = self.directories().flat_map(|directory| pids(directory)).collect();
        if pids.is_empty() {
            return false;
        }
        pids.sort_unstable();
        pids.dedup();
        self.freeze("FROZEN");
        for pid in pids {
            // Gone already is as good.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        self.freeze("THAWED");
        if let Some(directory) = &self.v2 {
            // v2 does all of it by itself, frozen or not; from Linux 5.14 on.
            let _ = fs::write(directory.join("cgroup.kill"), "1");
        }
        true
    }

    /// Best effort: without it a fork that escaped is met in the next round.
    fn freeze(&self, state: &str) {
        for file in
            self.v1.iter().map(|directory| directory.join("freezer.state")).filter(|file| file.exists())
        {
            let _ = fs::write(file, state);
        }
    }

    fn directories(&self) -> impl Iterator<Item = &PathBuf> {
        self.v1.iter().chain(&self.v2)
    }
}

fn is_v2(mount: &Path) -> bool {
    statfs(mount).is_ok_and(|stat| stat.filesystem_type() == CGROUP2_SUPER_MAGIC)
}

fn mounts() -> io::Result<Vec<PathBuf>> {
    let mut mounts = Vec::new();
    for entry in fs::read_dir(MOUNTS)? {
        let entry = entry?;
        // Joint controllers have symbolic links (cpu -> cpu,cpuacct): not followed, so that each is met once. In a
        // container systemd leaves directories of hierarchies that it could not mount.
        if entry.file_type()?.is_dir() && entry.path().join("cgroup.procs").exists() {
            mounts.push(entry.path());
        }
    }
    Ok(mounts)
}

/// Whether a v1 hierarchy is used: it is mounted under the names of its controllers.
fn has_used_controller(mount: &Path) -> bool {
    let name = mount.file_name().and_then(|name| name.to_str()).unwrap_or("");
    name.split(',').any(|controller| CONTROLLERS.contains(&controller))
}

/// The processes in `directory` and below.
fn pids(directory: &Path) -> Vec<i32> {
    let Ok(text) = fs::read_to_string(directory.join("cgroup.procs")) else { return Vec::new() };
    let mut pids: Vec<i32> =
        text.lines().filter_map(|line| line.parse().ok()).filter(|&pid: &i32| pid > 0).collect();
    pids.extend(children(directory).iter().flat_map(|child| self::pids(child)));
    pids
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let is_dir = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    entries.flatten().filter(is_dir).map(|entry| entry.path()).collect()
}

/// Removes `directory` and those below it. The kernel may call it busy for a moment after its last process ended.
fn remove_tree(directory: &Path, deadline: Instant) -> Result<(), CgroupError> {
    loop {
        let Err(error) = fs::remove_dir(directory) else { return Ok(()) };
        if error.kind() == io::ErrorKind::NotFound {
            return Ok(());
        }
        let children = children(directory);
        let is_busy = error.raw_os_error() == Some(Errno::EBUSY as i32);
        if !is_busy || Instant::now() > deadline {
            return Err(CgroupError::Remove(directory.to_owned(), error));
        }
        children.iter().try_for_each(|child| remove_tree(child, deadline))?;
        if children.is_empty() {
            thread::sleep(KILL_POLL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_in_their_hierarchies() {
        for path in ["", "/", "a", "/..", "/a/../b", "/a/./../../b"] {
            assert!(matches!(Cgroup::at(Path::new(path)), Err(CgroupError::Path(_))), "{path}");
        }
    }

    #[test]
    fn what_is_not_there_is_removed_and_not_frozen() {
        let Ok(cgroup) = Cgroup::at(Path::new("/hypercore-test-absent/x")) else { return };
        assert!(!cgroup.is_frozen());
        cgroup.remove().unwrap();
    }

    #[test]
    fn joint_controllers_are_recognized() {
        for (mount, expected) in [
            ("/sys/fs/cgroup/cpu,cpuacct", true),
            ("/sys/fs/cgroup/memory", true),
            ("/sys/fs/cgroup/systemd", false),
            ("/sys/fs/cgroup/cpuset", false),
        ] {
            assert_eq!(has_used_controller(Path::new(mount)), expected, "{mount}");
        }
    }
}
