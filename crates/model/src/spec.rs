//! What somebody asked to run. A [`WorkloadSpec`] is checked as a whole by [`WorkloadSpec::validate`].
//! It refuses to know how: bundles, cgroups and networks are the runtime's.

mod error;

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU16,
};

use serde::{Deserialize, Serialize};

use crate::{
    capability::Capability,
    image::ImageReference,
    io_limits::IoLimits,
    limits::{
        ARG_LEN_MAX, ARGV_COUNT_MAX, ENV_COUNT_MAX, ENV_LEN_MAX, LABEL_LEN_MAX, LABELS_COUNT_MAX,
        MOUNTS_COUNT_MAX, PIDS_DEFAULT, PIDS_MAX, PORTS_COUNT_MAX, STOP_GRACE_MS_MAX, TTL_MS_MAX,
    },
    machine::Monitor,
    mount::Mount,
    name::{SnapshotName, WorkloadName},
    port::PortMapping,
    restart::RestartPolicy,
    tenant::{Allowance, TenantName},
    ulimit::Ulimit,
    units::{CpuMillis, MemoryBytes},
};

pub use error::SpecError;

/// What stands between a workload and its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Linux namespaces, cgroups, capabilities and seccomp.
    #[default]
    Container,
    /// A virtual machine of its own.
    MicroVm,
}

impl Isolation {
    /// `container` or `microvm`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::MicroVm => "microvm",
        }
    }
}

/// What somebody asked to run. Fields that are `None` or empty take the image's own value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadSpec {
    /// The image to run.
    pub image: ImageReference,
    /// A name, unique on the cluster while the workload exists.
    #[serde(default)]
    pub name: Option<WorkloadName>,
    /// Container or microVM.
    #[serde(default)]
    pub isolation: Isolation,
    /// What runs its machine, of a microVM; `None` is what its node runs them with.
    #[serde(default)]
    pub vmm: Option<Monitor>,
    /// Replaces the image's entrypoint; then the image's own arguments are dropped too, as docker does.
    #[serde(default)]
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's arguments (`Cmd`) when not empty.
    #[serde(default)]
    pub command: Vec<String>,
    /// Added to the image's environment; same keys replace.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// `user[:group]`, by name or number.
    #[serde(default)]
    pub user: Option<String>,
    /// Working directory inside, absolute.
    #[serde(default)]
    pub workdir: Option<String>,
    /// Host name inside; the name, or else the short id, when not given.
    #[serde(default)]
    pub hostname: Option<WorkloadName>,
    /// Ports to publish on the node.
    #[serde(default)]
    pub ports: Vec<PortMapping>,
    /// CPU limit; `None` is unlimited.
    #[serde(default)]
    pub cpu: Option<CpuMillis>,
    /// Memory limit; `None` is unlimited.
    #[serde(default)]
    pub memory: Option<MemoryBytes>,
    /// Most processes and threads.
    #[serde(default = "pids_default")]
    pub pids_max: u32,
    /// Give the first process a terminal.
    #[serde(default)]
    pub tty: bool,
    /// Keep the first process's standard input open for `attach` and `run -i`.
    #[serde(default)]
    pub stdin_open: bool,
    /// Remove the workload when it has ended.
    #[serde(default)]
    pub remove_on_exit: bool,
    /// Free-form marks for people and policies.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Mount the image so that the workload can't write to it.
    #[serde(default)]
    pub read_only_rootfs: bool,
    /// What is mounted besides the image.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// What becomes of it when its process ends by itself.
    #[serde(default)]
    pub restart: RestartPolicy,
    /// How long after its creation it is stopped, in milliseconds; `None` is never.
    #[serde(default)]
    pub ttl_ms: Option<u64>,
    /// The signal that asks it to end, 1 to 64; `None` is the image's, or SIGTERM.
    #[serde(default)]
    pub stop_signal: Option<i32>,
    /// How long it may take to end before it is killed, in milliseconds, when a stop doesn't say; `None` is 10 s.
    #[serde(default)]
    pub stop_grace_ms: Option<u64>,
    /// Resource limits of each of its processes, over the node's own.
    #[serde(default)]
    pub ulimits: Vec<Ulimit>,
    /// Map its users, root too, to unprivileged ones of the host.
    #[serde(default)]
    pub user_namespace: bool,
    /// Put a small init before its first process, which forwards signals and reaps orphans.
    #[serde(default)]
    pub init: bool,
    /// Capabilities over the default set.
    #[serde(default)]
    pub cap_add: BTreeSet<Capability>,
    /// Capabilities taken from the default set; dropped before any is added.
    #[serde(default)]
    pub cap_drop: BTreeSet<Capability>,
    /// Who it belongs to: workloads of one tenant reach each other.
    #[serde(default)]
    pub tenant: TenantName,
    /// What its network may reach beyond its own tenant and the internet.
    #[serde(default)]
    pub allow: BTreeSet<Allowance>,
    /// The port inside that the ingress leads to; `None` is the first published TCP port, or the image's first.
    #[serde(default)]
    pub route_port: Option<NonZeroU16>,
    /// The snapshot that its first run goes on from; later runs begin with the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotName>,
    /// What it may take of disk and network.
    #[serde(default)]
    pub io: IoLimits,
}

const fn pids_default() -> u32 {
    PIDS_DEFAULT
}

impl WorkloadSpec {
    /// A spec with nothing but an image: everything else as the image says, or unlimited.
    #[must_use]
    pub fn of_image(image: ImageReference) -> Self {
        Self {
            image,
            name: None,
            isolation: Isolation::Container,
            vmm: None,
            entrypoint: None,
            command: Vec::new(),
            env: BTreeMap::new(),
            user: None,
            workdir: None,
            hostname: None,
            ports: Vec::new(),
            cpu: None,
            memory: None,
            pids_max: PIDS_DEFAULT,
            tty: false,
            stdin_open: false,
            remove_on_exit: false,
            labels: BTreeMap::new(),
            read_only_rootfs: false,
            mounts: Vec::new(),
            restart: RestartPolicy::No,
            ttl_ms: None,
            stop_signal: None,
            stop_grace_ms: None,
            ulimits: Vec::new(),
            user_namespace: false,
            init: false,
            cap_add: BTreeSet::new(),
            cap_drop: BTreeSet::new(),
            tenant: TenantName::default(),
            allow: BTreeSet::new(),
            route_port: None,
            snapshot: None,
            io: IoLimits::default(),
        }
    }

    /// Checks everything that the types of the fields don't already promise.
    ///
    /// # Errors
    /// Every mistake found, not just the first.
    pub fn validate(&self) -> Result<(), Vec<SpecError>> {
        let mut errors = Vec::new();
        self.check_argv(&mut errors);
        self.check_env(&mut errors);
        self.check_labels(&mut errors);
        self.check_ports(&mut errors);
        self.check_mounts(&mut errors);
        self.check_ulimits(&mut errors);
        self.check_end(&mut errors);
        errors.extend(self.io.mistakes(self.isolation).map(SpecError::IoLimit));
        if self.vmm.is_some() && self.isolation == Isolation::Container {
            errors.push(SpecError::VmmOfContainer);
        }
        if !(1..=PIDS_MAX).contains(&self.pids_max) {
            errors.push(SpecError::Pids(self.pids_max));
        }
        if let Some(workdir) = &self.workdir {
            if !workdir.starts_with('/') {
                errors.push(SpecError::Workdir(workdir.clone()));
            }
            check_text("the working directory", workdir, ARG_LEN_MAX, &mut errors);
        }
        if let Some(user) = &self.user {
            check_text("the user", user, LABEL_LEN_MAX, &mut errors);
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    fn check_argv(&self, errors: &mut Vec<SpecError>) {
        let entrypoint = self.entrypoint.as_deref();
        if entrypoint.is_some_and(|argv| argv.first().is_none_or(String::is_empty)) {
            errors.push(SpecError::Entrypoint);
        }
        for (what, argv) in [("entrypoint", entrypoint.unwrap_or_default()), ("command", &self.command)] {
            check_count(what, argv.len(), ARGV_COUNT_MAX, errors);
            for (index, arg) in argv.iter().enumerate() {
                check_text(&format!("{what} argument {index}"), arg, ARG_LEN_MAX, errors);
            }
        }
    }

    fn check_env(&self, errors: &mut Vec<SpecError>) {
        check_count("environment", self.env.len(), ENV_COUNT_MAX, errors);
        for (key, value) in &self.env {
            if key.is_empty() || key.contains(['=', '\0']) {
                errors.push(SpecError::EnvKey(key.escape_default().to_string()));
            }
            let len_max = ENV_LEN_MAX.saturating_sub(key.len() + 1);
            check_text(&format!("the environment variable {key}"), value, len_max, errors);
        }
    }

    fn check_labels(&self, errors: &mut Vec<SpecError>) {
        check_count("labels", self.labels.len(), LABELS_COUNT_MAX, errors);
        for (key, value) in &self.labels {
            if key.is_empty() || key.contains(char::is_control) {
                errors.push(SpecError::LabelKey(key.escape_default().to_string()));
            }
            check_text("a label's key", key, LABEL_LEN_MAX, errors);
            check_text(&format!("the label {key}"), value, LABEL_LEN_MAX, errors);
        }
    }

    fn check_ports(&self, errors: &mut Vec<SpecError>) {
        check_count("ports", self.ports.len(), PORTS_COUNT_MAX, errors);
        let mut seen = BTreeSet::new();
        for port in &self.ports {
            if let Some(host) = port.host
                && !seen.insert((host, port.protocol))
            {
                errors.push(SpecError::PortTwice(host.get()));
            }
        }
    }
}

impl WorkloadSpec {
    fn check_mounts(&self, errors: &mut Vec<SpecError>) {
        check_count("mounts", self.mounts.len(), MOUNTS_COUNT_MAX, errors);
        let mut seen = BTreeSet::new();
        for mount in &self.mounts {
            errors.extend(mount.check().err().map(SpecError::Mount));
            if !seen.insert(mount.target.trim_end_matches('/')) {
                errors.push(SpecError::MountTwice(mount.target.clone()));
            }
        }
    }

    fn check_ulimits(&self, errors: &mut Vec<SpecError>) {
        let mut seen = BTreeSet::new();
        for limit in &self.ulimits {
            if !seen.insert(limit.resource()) {
                errors.push(SpecError::UlimitTwice(limit.resource()));
            }
        }
    }

    /// What is said about its end: when, by which signal, and what comes after.
    fn check_end(&self, errors: &mut Vec<SpecError>) {
        if let Some(ttl_ms) = self.ttl_ms.filter(|ttl_ms| !(1..=TTL_MS_MAX).contains(ttl_ms)) {
            errors.push(SpecError::Ttl(ttl_ms));
        }
        if let Some(grace_ms) = self.stop_grace_ms.filter(|grace_ms| *grace_ms > STOP_GRACE_MS_MAX) {
            errors.push(SpecError::StopGrace(grace_ms));
        }
        if let Some(signal) = self.stop_signal.filter(|signal| !(1..=64).contains(signal)) {
            errors.push(SpecError::StopSignal(signal));
        }
        if self.remove_on_exit && self.restart != RestartPolicy::No {
            errors.push(SpecError::RestartRemoved);
        }
    }
}

fn check_count(what: &'static str, count: usize, max: usize, errors: &mut Vec<SpecError>) {
    if count > max {
        errors.push(SpecError::TooMany { what, count, max });
    }
}

fn check_text(what: &str, text: &str, max: usize, errors: &mut Vec<SpecError>) {
    if text.len() > max {
        errors.push(SpecError::TooLong { what: what.to_owned(), len: text.len(), max });
    }
    if text.contains('\0') {
        errors.push(SpecError::Nul(what.to_owned()));
    }
}

#[cfg(test)]
mod tests;
