//! The checks of user, kernel and cgroups.

use std::{fs, path::Path};

use hypercore_runtime::cgroup::CgroupLayout;

use super::{Finding, fix::Fix};

/// What a kernel must be able to do for containers, and the file that shows it.
const NAMESPACES: [&str; 6] = ["net", "mnt", "pid", "uts", "ipc", "cgroup"];

/// Whether we are root.
pub(super) fn root() -> Finding {
    if nix::unistd::geteuid().is_root() {
        Finding::ok("root", "running as root")
    } else {
        Finding::fail(
            "root",
            "not running as root, which a node needs",
            "try again with `sudo hypercore doctor`",
        )
    }
}

/// Overlay, namespaces, seccomp and TUN-free networking: what the kernel was built with.
pub(super) fn kernel() -> Vec<Finding> {
    vec![overlay(), namespaces(), seccomp()]
}

fn overlay() -> Finding {
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    if has_filesystem(&filesystems, "overlay") {
        return Finding::ok("overlay", "the kernel has overlayfs");
    }
    let modules = Path::new("/lib/modules").join(release.trim()).join("kernel/fs/overlayfs");
    if modules.is_dir() {
        let hint = "load it now with `modprobe overlay`, or let the first mount do it";
        return Finding::warn("overlay", "overlayfs is a module that isn't loaded", hint)
            .fixed_by(Fix::LoadModule("overlay"));
    }
    Finding::fail("overlay", "the kernel has no overlayfs", "use a kernel built with CONFIG_OVERLAY_FS")
}

fn has_filesystem(filesystems: &str, name: &str) -> bool {
    filesystems.lines().any(|line| line.split_whitespace().next_back() == Some(name))
}

fn namespaces() -> Finding {
    let is_missing = |name: &&&str| !Path::new("/proc/self/ns").join(name).exists();
    let missing: Vec<_> = NAMESPACES.iter().filter(is_missing).copied().collect();
    if missing.is_empty() {
        return Finding::ok("namespaces", "the kernel has every namespace containers use");
    }
    let message = format!("the kernel lacks the namespaces {}", missing.join(", "));
    Finding::fail("namespaces", message, "use a kernel built with CONFIG_NAMESPACES and all below it")
}

fn seccomp() -> Finding {
    if Path::new("/proc/sys/kernel/seccomp/actions_avail").exists() {
        Finding::ok("seccomp", "the kernel filters system calls")
    } else {
        let hint = "use a kernel built with CONFIG_SECCOMP_FILTER";
        Finding::fail("seccomp", "the kernel can't filter system calls", hint)
    }
}

/// Which cgroup layout there is, and whether it has the controllers that limits need.
pub(super) fn cgroups() -> Finding {
    match CgroupLayout::detect() {
        Ok(layout) => {
            Finding::ok("cgroups", format!("layout {}, with the controllers limits need", layout.as_str()))
        }
        Err(error) => {
            Finding::fail("cgroups", error.to_string(), "mount the cgroup controllers cpu, memory and pids")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filesystems_are_matched_by_their_whole_name() {
        let filesystems = "nodev\tsysfs\n\text4\nnodev\toverlay\n";
        assert!(has_filesystem(filesystems, "overlay") && has_filesystem(filesystems, "ext4"));
        assert!(!has_filesystem(filesystems, "over") && !has_filesystem(filesystems, "nodev"));
    }
}
