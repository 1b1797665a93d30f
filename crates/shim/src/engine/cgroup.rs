//! The workload's cgroup in every hierarchy of the host: v1 controllers, each mounted for itself, and the v2 tree.
//! `libcontainer` makes it and writes the limits; what it leaves out is here: entering the v2 tree of a hybrid host,
//! asking whether it is frozen, and emptying and removing it quickly.
//! It refuses paths that lead out of a hierarchy.

use std::{
    fs, io,
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
const MOUNTS: &str = "/sys/fs/cgroup";
/// The v2 tree of a hybrid host.
const UNIFIED: &str = "/sys/fs/cgroup/unified";
/// How long processes that were killed may take to be gone. One in an uninterruptible sleep takes as long as its device.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
/// How often is looked whether they are: v1 has no event for it.
const KILL_POLL: Duration = Duration::from_millis(1);

/// Why a cgroup can't be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum CgroupError {
    /// A path that isn't absolute or has `..`.
    #[error("the cgroup path {0:?} is not absolute and clean")]
    Path(PathBuf),
    /// The mounted hierarchies can't be listed.
    #[error("the cgroup hierarchies can't be listed")]
    List(#[source] io::Error),
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

/// One workload's cgroup.
#[derive(Debug)]
pub(super) struct Cgroup {
    path: PathBuf,
    /// Its directory in each hierarchy, whether there or not.
    directories: Vec<PathBuf>,
}

impl Cgroup {
    /// The cgroup at `path` below the mounts of all hierarchies (`linux.cgroupsPath` of the runtime spec).
    pub(super) fn at(path: &Path) -> Result<Self, CgroupError> {
        let bad = || CgroupError::Path(path.to_owned());
        let below = path.strip_prefix("/").map_err(|_| bad())?;
        let is_clean = below.components().all(|part| matches!(part, Component::Normal(_)));
        if below.as_os_str().is_empty() || !is_clean {
            return Err(bad());
        }
        let mounts = hierarchies().map_err(CgroupError::List)?;
        let directories = mounts.into_iter().map(|mount| mount.join(below)).collect();
        Ok(Self { path: path.to_owned(), directories })
    }

    /// Moves this process, and so what it clones from now on, into the v2 tree of a hybrid host, where programs that
    /// filter by cgroup look. Elsewhere nothing is to be done.
    pub(super) fn enter_unified(&self) -> Result<(), CgroupError> {
        if let Some(directory) = self.unified() {
            let entered = fs::create_dir_all(directory).and_then(|()| enter(directory));
            entered.map_err(|error| CgroupError::Enter(directory.to_owned(), error))?;
        }
        Ok(())
    }

    /// Moves this process back to the root of the v2 tree: a cgroup that holds it couldn't be removed.
    pub(super) fn leave_unified(&self) -> Result<(), CgroupError> {
        if self.unified().is_some() {
            enter(Path::new(UNIFIED)).map_err(|error| CgroupError::Enter(UNIFIED.into(), error))?;
        }
        Ok(())
    }

    fn unified(&self) -> Option<&Path> {
        self.directories.iter().map(PathBuf::as_path).find(|directory| directory.starts_with(UNIFIED))
    }

    /// Whether its processes stand still: v1's freezer or v2's.
    pub(super) fn is_frozen(&self) -> bool {
        let says = |directory: &PathBuf, file: &str, running: &str| {
            fs::read_to_string(directory.join(file)).is_ok_and(|state| state.trim() != running)
        };
        self.directories.iter().any(|directory| {
            says(directory, "freezer.state", "THAWED") || says(directory, "cgroup.freeze", "0")
        })
    }

    /// Kills every process in it, waits until they are gone, and removes it. Fine if it isn't there.
    pub(super) fn remove(&self) -> Result<(), CgroupError> {
        let deadline = Instant::now() + KILL_TIMEOUT;
        while self.kill() {
            if Instant::now() > deadline {
                return Err(CgroupError::Alive(self.path.clone()));
            }
            thread::sleep(KILL_POLL);
        }
        self.directories.iter().try_for_each(|directory| remove_tree(directory, deadline))
    }

    /// Kills what is in it now; false if nothing was. Frozen meanwhile, so that nothing escapes by forking.
    fn kill(&self) -> bool {
        let mut pids: Vec<i32> = self.directories.iter().flat_map(|directory| pids(directory)).collect();
        if pids.is_empty() {
            return false;
        }
        pids.sort_unstable();
        pids.dedup();
        // Without v1's freezer nothing is written, and a fork that escaped is met in the next round.
        self.freeze("FROZEN");
        for pid in pids {
            // Gone already is as good.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        self.freeze("THAWED");
        // v2 does all of it by itself, frozen or not.
        self.write("cgroup.kill", "1");
        true
    }

    fn freeze(&self, state: &str) {
        self.write("freezer.state", state);
    }

    /// Writes to `file` in each directory that has it.
    fn write(&self, file: &str, text: &str) {
        for directory in &self.directories {
            let file = directory.join(file);
            if file.exists() {
                // It may vanish with the cgroup; then there is nothing left to tell.
                let _ = fs::write(&file, text);
            }
        }
    }
}

/// The mount points of all hierarchies.
fn hierarchies() -> io::Result<Vec<PathBuf>> {
    let is_v2 = statfs(MOUNTS).is_ok_and(|stat| stat.filesystem_type() == CGROUP2_SUPER_MAGIC);
    if is_v2 {
        return Ok(vec![PathBuf::from(MOUNTS)]);
    }
    let mut mounts = Vec::new();
    for entry in fs::read_dir(MOUNTS)? {
        let entry = entry?;
        // Joint controllers have symbolic links (cpu -> cpu,cpuacct): not followed, so that each is met once.
        if entry.file_type()?.is_dir() {
            mounts.push(entry.path());
        }
    }
    Ok(mounts)
}

fn enter(directory: &Path) -> io::Result<()> {
    fs::write(directory.join("cgroup.procs"), "0")
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
        let children = children(directory);
        let is_busy = error.raw_os_error() == Some(Errno::EBUSY as i32);
        if error.kind() == io::ErrorKind::NotFound {
            return Ok(());
        } else if !is_busy || (children.is_empty() && Instant::now() > deadline) {
            return Err(CgroupError::Remove(directory.to_owned(), error));
        } else if children.is_empty() {
            thread::sleep(KILL_POLL);
        }
        children.iter().try_for_each(|child| remove_tree(child, deadline))?;
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
}
