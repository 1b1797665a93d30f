//! Where a host has its cgroup hierarchies: v1, hybrid or v2, read from the mount table (cgroups(7), proc(5)).
//! It refuses to mount anything: a host without cgroups is an error.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// The mount table of the calling process.
const MOUNTINFO: &str = "/proc/self/mountinfo";

/// Why the host's cgroups could not be found.
#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    /// The mount table can't be read.
    #[error("can't read {path}")]
    Read {
        /// The mount table.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No cgroup filesystem is mounted.
    #[error("no cgroup filesystem is mounted; mount one at /sys/fs/cgroup (systemd does, or cgroupfs-mount)")]
    None,
    /// A v1 host lacks a controller that limits need.
    #[error("the host's v1 cgroups lack the controllers {0}, without which limits can't be enforced")]
    MissingControllers(String),
}

/// How a host's cgroups are laid out. Paths are mount points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CgroupLayout {
    /// One hierarchy per v1 controller, several of which may share a mount point.
    V1 {
        /// Mount point by controller (`memory`, `cpuacct`, `name=systemd`, ...).
        controllers: BTreeMap<String, PathBuf>,
    },
    /// v1 controllers, and a v2 hierarchy without controllers beside them.
    Hybrid {
        /// Mount point by v1 controller.
        controllers: BTreeMap<String, PathBuf>,
        /// Mount point of the v2 hierarchy.
        unified: PathBuf,
    },
    /// The unified hierarchy alone.
    V2 {
        /// Its mount point.
        unified: PathBuf,
    },
}

impl CgroupLayout {
    /// Looks at the calling process's mount table.
    ///
    /// # Errors
    /// [`DetectError`] when it can't be read, or has no usable cgroups.
    pub fn detect() -> Result<Self, DetectError> {
        let text = fs::read_to_string(MOUNTINFO)
            .map_err(|source| DetectError::Read { path: MOUNTINFO.into(), source })?;
        Self::from_mountinfo(&text)
    }

    /// The layout that a mount table in the format of `/proc/<pid>/mountinfo` shows.
    ///
    /// # Errors
    /// [`DetectError::None`] or [`DetectError::MissingControllers`].
    pub fn from_mountinfo(text: &str) -> Result<Self, DetectError> {
        let mut controllers = BTreeMap::new();
        let mut unified = None;
        for mount in text.lines().filter_map(Mount::parse) {
            match mount.kind {
                // The first mount of a hierarchy is the conventional one; later ones are binds into containers.
                "cgroup2" => drop(unified.get_or_insert(mount.point)),
                "cgroup" => {
                    for option in mount.options.split(',').filter(|option| is_controller(option)) {
                        controllers.entry(option.to_owned()).or_insert_with(|| mount.point.clone());
                    }
                }
                _ => {}
            }
        }
        // A v1 hierarchy without controllers (systemd's own) beside v2 makes no hybrid.
        let has_controllers = controllers.keys().any(|name| !name.starts_with("name="));
        match (has_controllers, unified) {
            (false, Some(unified)) => Ok(Self::V2 { unified }),
            (false, None) => Err(DetectError::None),
            (true, unified) => {
                check_needed(&controllers)?;
                Ok(match unified {
                    Some(unified) => Self::Hybrid { controllers, unified },
                    None => Self::V1 { controllers },
                })
            }
        }
    }

    /// `v1`, `hybrid` or `v2`.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::V1 { .. } => "v1",
            Self::Hybrid { .. } => "hybrid",
            Self::V2 { .. } => "v2",
        }
    }

    /// Mount point of the v2 hierarchy, if the host has one.
    #[must_use]
    pub fn unified(&self) -> Option<&Path> {
        match self {
            Self::V1 { .. } => None,
            Self::Hybrid { unified, .. } | Self::V2 { unified } => Some(unified),
        }
    }

    /// Mount point of a v1 controller, if the host has it as v1.
    #[must_use]
    pub fn controller(&self, name: &str) -> Option<&Path> {
        match self {
            Self::V1 { controllers } | Self::Hybrid { controllers, .. } => {
                controllers.get(name).map(PathBuf::as_path)
            }
            Self::V2 { .. } => None,
        }
    }

    /// Every mount point a cgroup may have been made under, each once.
    pub fn hierarchies(&self) -> impl Iterator<Item = &Path> {
        let controllers = match self {
            Self::V1 { controllers } | Self::Hybrid { controllers, .. } => Some(controllers),
            Self::V2 { .. } => None,
        };
        let mut mounts: Vec<&Path> =
            controllers.into_iter().flat_map(BTreeMap::values).map(PathBuf::as_path).collect();
        mounts.extend(self.unified());
        mounts.sort_unstable();
        mounts.dedup();
        mounts.into_iter()
    }

    /// Whether the kernel accounts swap, so that a limit on it can be written at all.
    #[must_use]
    pub fn accounts_swap(&self) -> bool {
        match self.controller("memory") {
            Some(memory) => memory.join("memory.memsw.limit_in_bytes").exists(),
            // The v2 root has no limits; any other cgroup shows whether this kernel has the file.
            None => self.unified().is_some_and(|unified| any_child_has(unified, "memory.swap.max")),
        }
    }
}

fn any_child_has(directory: &Path, file: &str) -> bool {
    let Ok(children) = fs::read_dir(directory) else { return false };
    children.flatten().any(|child| child.path().join(file).exists())
}

/// The controllers that a spec's limits are written to.
fn check_needed(controllers: &BTreeMap<String, PathBuf>) -> Result<(), DetectError> {
    let missing: Vec<&str> = ["cpu", "cpuacct", "devices", "freezer", "memory", "pids"]
        .into_iter()
        .filter(|name| !controllers.contains_key(*name))
        .collect();
    if missing.is_empty() { Ok(()) } else { Err(DetectError::MissingControllers(missing.join(", "))) }
}

/// Mount options of a v1 hierarchy that are not a controller's name.
fn is_controller(option: &str) -> bool {
    let other = ["rw", "ro", "xattr", "clone_children", "noprefix", "all", "none", "cpuset_v2_mode"];
    !other.contains(&option) && !option.starts_with("release_agent=")
}

struct Mount<'a> {
    point: PathBuf,
    kind: &'a str,
    /// Options of the superblock.
    options: &'a str,
}

impl<'a> Mount<'a> {
    /// One line of mountinfo (proc(5)): `36 35 98:0 /root /point opts tag:1 - type source superopts`.
    fn parse(line: &'a str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let point = before.split(' ').nth(4)?;
        let mut after = after.split(' ');
        let kind = after.next()?;
        Some(Self { point: unescape(point), kind, options: after.nth(1)? })
    }
}

/// Undoes mountinfo's octal escapes of blank, tab, newline and backslash.
fn unescape(text: &str) -> PathBuf {
    let text =
        text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\");
    PathBuf::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/devices rw,relatime - cgroup cgroup rw,devices
37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,release_agent=/lib/x,name=systemd
41 31 0:36 / /elsewhere/pids rw,relatime - cgroup cgroup rw,pids
";
    const UNIFIED: &str = "42 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
    const V2: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
32 23 0:99 / /mnt/my\\040disk rw - ext4 /dev/vdb rw
";

    #[test]
    fn pure_v1_has_a_mount_point_per_controller() {
        let layout = CgroupLayout::from_mountinfo(V1).unwrap();
        assert_eq!(layout.as_str(), "v1");
        assert_eq!(layout.controller("cpuacct"), Some(Path::new("/sys/fs/cgroup/cpu,cpuacct")));
        assert_eq!(layout.controller("pids"), Some(Path::new("/sys/fs/cgroup/pids")));
        assert_eq!(layout.unified(), None);
        assert_eq!(layout.hierarchies().count(), 6);
        let CgroupLayout::V1 { controllers } = layout else { panic!("not v1") };
        let names: Vec<_> = controllers.keys().map(String::as_str).collect();
        assert_eq!(names, ["cpu", "cpuacct", "devices", "freezer", "memory", "name=systemd", "pids"]);
    }

    #[test]
    fn v1_with_a_unified_mount_is_hybrid() {
        let layout = CgroupLayout::from_mountinfo(&format!("{V1}{UNIFIED}")).unwrap();
        assert_eq!(layout.as_str(), "hybrid");
        assert_eq!(layout.unified(), Some(Path::new("/sys/fs/cgroup/unified")));
        assert_eq!(layout.hierarchies().count(), 7);
    }

    #[test]
    fn a_unified_mount_alone_is_v2_whatever_systemd_keeps_beside_it() {
        let layout = CgroupLayout::from_mountinfo(V2).unwrap();
        assert_eq!(layout, CgroupLayout::V2 { unified: "/sys/fs/cgroup".into() });
        let systemd = "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n";
        assert_eq!(CgroupLayout::from_mountinfo(&format!("{V2}{systemd}")).unwrap(), layout);
    }

    #[test]
    fn a_host_without_what_limits_need_is_refused() {
        assert!(matches!(CgroupLayout::from_mountinfo("garbage\n"), Err(DetectError::None)));
        let without: String =
            V1.lines().filter(|line| !line.contains("pids")).map(|line| format!("{line}\n")).collect();
        let error = CgroupLayout::from_mountinfo(&without).unwrap_err();
        assert!(error.to_string().contains("lack the controllers pids"), "{error}");
    }

    #[test]
    fn mount_points_are_unescaped() {
        assert_eq!(unescape("/a\\040b\\134c"), PathBuf::from("/a b\\c"));
    }
}
