//! `config.json`: the OCI runtime spec of a workload, around its first process.
//! It refuses what docker refuses by default: other devices, the kernel's knobs in `/proc` and `/sys`, host namespaces.

use std::{
    collections::HashMap,
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, symlink},
    path::{Path, PathBuf},
    sync::LazyLock,
};

use oci_spec::runtime::{
    Linux, LinuxDeviceCgroup, LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceType, LinuxResources,
    Mount, Process, Root, Spec,
};

use super::{BundleError, BundleRequest, Mapping, hostname};

/// Tells the engine to stay as the container's first process, beside the program.
const INIT_ANNOTATION: &str = "hypercore.init";

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

/// Counters of each CPU that tell how busy the machine is, and with what (docker masks them as well).
static CPU_COUNTERS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let cpus = fs::read_dir("/sys/devices/system/cpu").into_iter().flatten().flatten();
    let counters = cpus.map(|cpu| cpu.path().join("thermal_throttle"));
    counters.filter(|path| path.is_dir()).map(|path| path.display().to_string()).collect()
});

/// Paths that may be read only; docker's list.
const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Kernel settings of the workload's own network namespace: every user may bind low ports and ping, as in docker.
const SYSCTLS: [(&str, &str); 2] =
    [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")];

/// Writes `config.json` whole or not at all: its content to memory, a link to that into the bundle.
pub(super) fn write(
    request: &BundleRequest<'_>,
    process: Process,
    mounts: Vec<Mount>,
    first: Option<u32>,
) -> Result<(), BundleError> {
    let path = request.directory.join("config.json");
    let content = request.memory_directory.join(format!("{}.json", request.id));
    let mut spec = spec(request, process, mounts);
    if let (Some(first), Some(linux)) = (first, spec.linux_mut()) {
        map_users(linux, first);
    }
    let written = encode(&spec, &content).and_then(|()| link(&content, &path));
    written.map_err(|source| BundleError::Write { path, source })
}

/// Makes `path` a link to `content`, in one step, whatever is there.
fn link(content: &Path, path: &Path) -> io::Result<()> {
    let new = path.with_extension("json.new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(content, &new)?;
    fs::rename(&new, path)
}

fn encode(spec: &Spec, path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    // It has the environment in it, which may be a secret.
    let new = path.with_extension("new");
    let mut file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(&serde_json::to_vec(spec)?)?;
    fs::rename(&new, path)
}

fn spec(request: &BundleRequest<'_>, process: Process, mounts: Vec<Mount>) -> Spec {
    let mut root = Root::default();
    root.set_path(PathBuf::from("rootfs")).set_readonly(Some(request.spec.read_only_rootfs));
    let mut spec = Spec::default();
    spec.set_version("1.1.0".to_owned())
        .set_root(Some(root))
        .set_hostname(Some(hostname(request.id, request.spec)))
        .set_mounts(Some(mounts))
        .set_process(Some(process))
        .set_linux(Some(linux(request)));
    if request.spec.init {
        spec.set_annotations(Some(HashMap::from([(INIT_ANNOTATION.to_owned(), "true".to_owned())])));
    }
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
        .set_masked_paths(texts(&MASKED_PATHS).map(|paths| [paths, CPU_COUNTERS.clone()].concat()))
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

/// A user namespace whose root is `first` on the host.
fn map_users(linux: &mut Linux, first: u32) {
    let mut namespace = LinuxNamespace::default();
    namespace.set_typ(LinuxNamespaceType::User);
    let namespaces = linux.namespaces().clone().unwrap_or_default();
    let mapping = LinuxIdMappingBuilder::default().container_id(0_u32).host_id(first).size(Mapping::COUNT);
    let mapping = mapping.build().expect("every field is given");
    linux
        .set_namespaces(Some([namespaces, vec![namespace]].concat()))
        .set_uid_mappings(Some(vec![mapping]))
        .set_gid_mappings(Some(vec![mapping]));
}

/// The limits, and before them the rule that denies all devices: engines allow their default ones after it.
fn resources(given: &LinuxResources) -> LinuxResources {
    let mut deny_all = LinuxDeviceCgroup::default();
    deny_all.set_allow(false).set_access(Some("rwm".to_owned()));
    let mut resources = given.clone();
    resources.set_devices(Some(vec![deny_all]));
    resources
}

#[cfg(test)]
mod tests {
    use hypercore_model::WorkloadSpec;
    use oci_spec::image::ImageConfiguration;

    use super::*;
    use crate::volume::VolumeStore;

    fn spec_of(netns: Option<&Path>) -> Spec {
        let volumes = tempfile::tempdir().unwrap();
        let request = BundleRequest {
            id: "1b4e28ba-2fa1-41d2-883f-0016d3cca427".parse().unwrap(),
            spec: &WorkloadSpec::of_image("web:1".parse().unwrap()),
            image: &ImageConfiguration::default(),
            layers: &[],
            directory: Path::new("/nowhere"),
            memory_directory: Path::new("/nowhere"),
            volumes: &VolumeStore::open(volumes.path()).unwrap(),
            reserved: &[],
            mapping: None,
            netns,
            cgroup_path: "/hypercore-a/x",
            resources: serde_json::from_str(r#"{"pids":{"limit":7}}"#).unwrap(),
        };
        spec(&request, Process::default(), Vec::new())
    }

    #[test]
    fn nothing_of_the_host_is_shared() {
        let spec = spec_of(Some(Path::new("/run/netns/x")));
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
        let spec = spec_of(None);
        let resources = spec.linux().as_ref().unwrap().resources().clone().unwrap();
        assert_eq!(resources.pids().unwrap().limit(), 7);
        let devices = resources.devices().clone().unwrap();
        assert_eq!(devices.len(), 1);
        assert!(!devices[0].allow() && devices[0].access().as_deref() == Some("rwm"));
    }
}
