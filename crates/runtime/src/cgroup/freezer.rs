//! Holding all processes of a cgroup where they are, and letting them go on (kernel, freezer-subsystem.rst and
//! cgroup-v2.rst, "cgroup.freeze"). It refuses to leave a cgroup half frozen: what doesn't freeze in time is thawed.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::libc::ENODEV;

use super::layout::CgroupLayout;

/// How long the kernel may take to freeze. A process in the middle of slow input or output freezes after it.
const FREEZE_TIME_MAX: Duration = Duration::from_secs(5);
/// How long to wait between two looks at what is frozen so far.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Why a cgroup could not be frozen or thawed.
#[derive(Debug, thiserror::Error)]
pub enum FreezeError {
    /// The workload has no cgroup: it isn't running.
    #[error("there is no cgroup {0}")]
    Absent(PathBuf),
    /// A file of the cgroup can't be read.
    #[error("can't read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of the cgroup can't be written.
    #[error("can't write {path}")]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A process kept on running, in the kernel most likely. Everything was thawed again.
    #[error("its processes did not freeze within {} seconds", FREEZE_TIME_MAX.as_secs())]
    Slow,
}

/// One cgroup's freezer, in the form its hierarchy has.
#[derive(Debug)]
pub(super) enum Freezer {
    /// The directory in the v1 freezer hierarchy.
    V1(PathBuf),
    /// The directory in the unified hierarchy.
    V2(PathBuf),
}

impl Freezer {
    /// The freezer of the cgroup at `path`.
    pub(super) fn of(layout: &CgroupLayout, path: &str) -> Self {
        let path = path.trim_start_matches('/');
        match (layout.controller("freezer"), layout.unified()) {
            (Some(mount), _) => Self::V1(mount.join(path)),
            (None, unified) => Self::V2(unified.unwrap_or(Path::new("/sys/fs/cgroup")).join(path)),
        }
    }

    /// Freezes all processes; returns when they are. Blocks for milliseconds, at most [`FREEZE_TIME_MAX`].
    pub(super) fn freeze(&self) -> Result<(), FreezeError> {
        let end = Instant::now() + FREEZE_TIME_MAX;
        loop {
            // A v1 freezer that is still at it goes on when it is told again.
            self.set(true)?;
            if self.has_frozen()? {
                return Ok(());
            }
            if Instant::now() >= end {
                self.set(false)?;
                return Err(FreezeError::Slow);
            }
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Lets all processes go on.
    pub(super) fn thaw(&self) -> Result<(), FreezeError> {
        self.set(false)
    }

    /// Whether the cgroup is to be frozen, be it so far or not.
    pub(super) fn is_frozen(&self) -> Result<bool, FreezeError> {
        match self {
            Self::V1(directory) => read(&directory.join("freezer.state")).map(|state| state != "THAWED"),
            Self::V2(directory) => read(&directory.join("cgroup.freeze")).map(|state| state == "1"),
        }
    }

    fn has_frozen(&self) -> Result<bool, FreezeError> {
        match self {
            Self::V1(directory) => read(&directory.join("freezer.state")).map(|state| state == "FROZEN"),
            Self::V2(directory) => read(&directory.join("cgroup.events"))
                .map(|events| events.lines().any(|line| line == "frozen 1")),
        }
    }

    fn set(&self, is_frozen: bool) -> Result<(), FreezeError> {
        let (path, text) = match (self, is_frozen) {
            (Self::V1(directory), true) => (directory.join("freezer.state"), "FROZEN"),
            (Self::V1(directory), false) => (directory.join("freezer.state"), "THAWED"),
            (Self::V2(directory), true) => (directory.join("cgroup.freeze"), "1"),
            (Self::V2(directory), false) => (directory.join("cgroup.freeze"), "0"),
        };
        // Not `fs::write`: that would make the file where there is no cgroup filesystem.
        let written = fs::OpenOptions::new().write(true).open(&path).and_then(|mut file| {
            use io::Write as _;
            file.write_all(text.as_bytes())
        });
        written.map_err(|source| absent_or(&path, source, |path, source| FreezeError::Write { path, source }))
    }
}

fn read(path: &Path) -> Result<String, FreezeError> {
    let text = fs::read_to_string(path);
    text.map(|text| text.trim().to_owned())
        .map_err(|source| absent_or(path, source, |path, source| FreezeError::Read { path, source }))
}

fn absent_or(
    path: &Path,
    source: io::Error,
    other: impl FnOnce(PathBuf, io::Error) -> FreezeError,
) -> FreezeError {
    let directory = path.parent().unwrap_or(path);
    // ENODEV is what an open file gives when its cgroup is removed.
    if source.raw_os_error() == Some(ENODEV) || !directory.exists() {
        FreezeError::Absent(directory.to_owned())
    } else {
        other(path.to_owned(), source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(directory: &Path) -> CgroupLayout {
        CgroupLayout::V2 { unified: directory.to_owned() }
    }

    fn made(root: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(root.join("p/w")).unwrap();
        for (name, content) in files {
            fs::write(root.join("p/w").join(name), content).unwrap();
        }
    }

    #[test]
    fn a_v2_cgroup_is_frozen_when_its_events_say_so() {
        let root = tempfile::tempdir().unwrap();
        made(root.path(), &[("cgroup.freeze", "0"), ("cgroup.events", "populated 1\nfrozen 1\n")]);
        let freezer = Freezer::of(&v2(root.path()), "/p/w");
        assert!(!freezer.is_frozen().unwrap());
        freezer.freeze().unwrap();
        assert!(freezer.is_frozen().unwrap());
        freezer.thaw().unwrap();
        assert!(!freezer.is_frozen().unwrap());
    }

    #[test]
    fn a_v1_cgroup_on_its_way_counts_as_frozen_to_who_asks_and_not_to_who_waits() {
        let root = tempfile::tempdir().unwrap();
        made(root.path(), &[("freezer.state", "FREEZING\n")]);
        let layout =
            CgroupLayout::V1 { controllers: [("freezer".to_owned(), root.path().to_owned())].into() };
        let freezer = Freezer::of(&layout, "/p/w");
        assert!(freezer.is_frozen().unwrap() && !freezer.has_frozen().unwrap());
    }

    #[test]
    fn what_has_no_cgroup_is_absent_and_nothing_is_made() {
        let root = tempfile::tempdir().unwrap();
        let freezer = Freezer::of(&v2(root.path()), "/p/gone");
        assert!(matches!(freezer.freeze(), Err(FreezeError::Absent(_))));
        assert!(matches!(freezer.is_frozen(), Err(FreezeError::Absent(_))));
        assert!(!root.path().join("p").exists());
    }
}
