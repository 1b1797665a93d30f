//! `config.json`: the OCI runtime spec of a workload, around its first process.
//! It refuses what docker refuses by default: other devices, the kernel's knobs in `/proc` and `/sys`, host namespaces.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use oci_spec::runtime::{
    Linux, LinuxDeviceCgroup, LinuxNamespace, LinuxNamespaceType, LinuxResources, Mount, Process, Root, Spec,
};

use super::{BundleError, BundleRequest, hostname};

/// Files of the workload's directory that are bound over those of the image.
const HOSTS_FILES: [&str; 3] = ["resolv.conf", "hosts", "hostname"];

/// Paths that tell about or reach into the host; docker's list.
const MASKED_PATHS: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Paths that may be read only; docker's list.
const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Kernel settings of the workload's own network namespace: every user may bind low ports and ping, as in docker.
const SYSCTLS: [(&str, &str); 2] =
    [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")];

/// File systems of their own: destination, type, options.
const FILE_SYSTEMS: [(&str, &str, &[&str]); 6] = [
    ("/proc", "proc", &["nosuid", "noexec", "nodev"]),
    ("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
    ("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
    ("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    ("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
];

/// Writes `config.json` whole or not at all.
pub(super) fn write(request: &BundleRequest<'_>, process: Process) -> Result<(), BundleError> {
    let path = request.directory.join("config.json");
    let temporary = request.directory.join("config.json.new");
    let spec = spec(request, process);
    let written = encode(&spec, &temporary).and_then(|()| fs::rename(&temporary, &path));
    written.map_err(|source| BundleError::Write { path, source })
}

fn encode(spec: &Spec, path: &Path) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(&serde_json::to_vec(spec)?)
}

fn spec(request: &BundleRequest<'_>, process: Process) -> Spec {
    let mut root = Root::default();
    root.set_path(PathBuf::from("rootfs")).set_readonly(Some(false));
    let mut spec = Spec::default();
    spec.set_version("1.1.0".to_owned())
        .set_root(Some(root))
        .set_hostname(Some(hostname(request.id, request.spec)))
        .set_mounts(Some(mounts(request.directory)))
        .set_process(Some(process))
        .set_linux(Some(linux(request)));
    spec
}

fn linux(request: &BundleRequest<'_>) -> Linux {
    let texts = |list: &[&str]| Some(list.iter().map(|&text| text.to_owned()).collect());
    let sysctls = SYSCTLS.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
    let mut linux = Linux::default();
    linux
        .set_namespaces(Some(namespaces(request.netns)))
        .set_cgroups_path(Some(PathBuf::from(request.cgroup_path)))
        .set_resources(Some(resources(&request.resources)))
        .set_masked_paths(texts(&MASKED_PATHS))
        .set_readonly_paths(texts(&READONLY_PATHS))
        .set_sysctl(Some(sysctls));
    linux
}

fn namespaces(netns: Option<&Path>) -> Vec<LinuxNamespace> {
    let own = [
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Uts,
        LinuxNamespaceType::Mount,
        LinuxNamespaceType::Cgroup,
        LinuxNamespaceType::Network,
    ];
    own.into_iter()
        .map(|typ| {
            let mut namespace = LinuxNamespace::default();
            namespace.set_typ(typ);
            if typ == LinuxNamespaceType::Network {
                namespace.set_path(netns.map(Path::to_owned));
            }
            namespace
        })
        .collect()
}

/// The limits, and before them the rule that denies all devices: engines allow their default ones after it.
fn resources(given: &LinuxResources) -> LinuxResources {
    let mut deny_all = LinuxDeviceCgroup::default();
    deny_all.set_allow(false).set_access(Some("rwm".to_owned()));
    let mut resources = given.clone();
    resources.set_devices(Some(vec![deny_all]));
    resources
}

fn mounts(directory: &Path) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = FILE_SYSTEMS
        .iter()
        .map(|&(destination, typ, options)| mount(destination, typ, Path::new(typ), options))
        .collect();
    // On cgroup v1 it would take one mount per controller, and they can't be made read-only there.
    if statfs("/sys/fs/cgroup").is_ok_and(|stat| stat.filesystem_type() == CGROUP2_SUPER_MAGIC) {
        let options = ["nosuid", "noexec", "nodev", "ro"];
        mounts.push(mount("/sys/fs/cgroup", "cgroup", Path::new("cgroup"), &options));
    }
    for name in HOSTS_FILES {
        let source = directory.join(name);
        if source.is_file() {
            let options = ["bind", "nosuid", "noexec", "nodev"];
            mounts.push(mount(&format!("/etc/{name}"), "bind", &source, &options));
        }
    }
    mounts
}

fn mount(destination: &str, typ: &str, source: &Path, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(PathBuf::from(destination))
        .set_typ(Some(typ.to_owned()))
        .set_source(Some(source.to_owned()))
        .set_options(Some(options.iter().map(|&option| option.to_owned()).collect()));
    mount
}

#[cfg(test)]
mod tests {
    use hypercore_model::WorkloadSpec;
    use oci_spec::image::ImageConfiguration;

    use super::*;

    fn spec_of(directory: &Path, netns: Option<&Path>) -> Spec {
        let request = BundleRequest {
            id: "1b4e28ba-2fa1-41d2-883f-0016d3cca427".parse().unwrap(),
            spec: &WorkloadSpec::of_image("web:1".parse().unwrap()),
            image: &ImageConfiguration::default(),
            layers: &[],
            directory,
            netns,
            cgroup_path: "/hypercore-a/x",
            resources: serde_json::from_str(r#"{"pids":{"limit":7}}"#).unwrap(),
        };
        spec(&request, Process::default())
    }

    #[test]
    fn nothing_of_the_host_is_shared() {
        let spec = spec_of(Path::new("/nowhere"), Some(Path::new("/run/netns/x")));
        let linux = spec.linux().as_ref().unwrap();
        let namespaces = linux.namespaces().as_ref().unwrap();
        assert_eq!(namespaces.len(), 6);
        for namespace in namespaces {
            let is_network = namespace.typ() == LinuxNamespaceType::Network;
            let expected = is_network.then_some(Path::new("/run/netns/x"));
            assert_eq!(namespace.path().as_deref(), expected, "{namespace:?}");
        }
        assert_eq!(linux.cgroups_path().as_deref(), Some(Path::new("/hypercore-a/x")));
        assert_eq!(spec.hostname().as_deref(), Some("1b4e28ba-2fa"));
    }

    #[test]
    fn devices_are_denied_and_limits_passed_on() {
        let spec = spec_of(Path::new("/nowhere"), None);
        let resources = spec.linux().as_ref().unwrap().resources().clone().unwrap();
        assert_eq!(resources.pids().unwrap().limit(), 7);
        let devices = resources.devices().clone().unwrap();
        assert_eq!(devices.len(), 1);
        assert!(!devices[0].allow() && devices[0].access().as_deref() == Some("rwm"));
    }

    #[test]
    fn only_hosts_files_that_are_there_are_bound() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("hosts"), "").unwrap();
        let spec = spec_of(directory.path(), None);
        let mounts = spec.mounts().as_ref().unwrap();
        let bound: Vec<_> = mounts.iter().filter(|mount| mount.typ().as_deref() == Some("bind")).collect();
        assert_eq!(bound.len(), 1);
        assert_eq!(bound[0].destination(), Path::new("/etc/hosts"));
        assert_eq!(bound[0].source().as_deref(), Some(directory.path().join("hosts").as_path()));
    }
}
