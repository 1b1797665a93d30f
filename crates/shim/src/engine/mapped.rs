//! What is done otherwise for a container with a user namespace.
//!
//! Its root is nobody on the host, so what needs the host's root is done before: joining the network namespace that
//! the node made, setting what is set there, and mounting `/sys` as seen from there. What is bound is shown with its
//! ids (see [`super::user_namespace`]).
//!
//! It refuses to leave it to `libcontainer`, which would try all of that from inside and fail.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use libcontainer::oci_spec::runtime::{LinuxNamespaceType, Spec};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
};

use super::{stage::Brought, user_namespace};

/// Where `/sys` of the container waits on the stage.
const KERNEL: &str = "/kernel";
/// The devices that `libcontainer` binds, because nobody may make nodes in a user namespace.
const DEVICES: [&str; 6] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/tty", "/dev/urandom", "/dev/random"];

/// What to do before `libcontainer` has its turn.
#[derive(Debug)]
pub(super) struct Mapped {
    /// First id on the host, and how many there are.
    ids: (u32, u32),
    /// The network namespace to join; `None` is a new one.
    network: Option<PathBuf>,
    /// Settings of its network.
    sysctls: HashMap<String, String>,
}

impl Mapped {
    /// Takes out of `spec` what can't be done from inside; `None` if the container has no user namespace.
    pub(super) fn adapt(spec: &mut Spec) -> Option<Self> {
        let mapping = user_namespace::mapping_of(spec)?;
        let linux = spec.linux_mut().as_mut()?;
        let namespaces = linux.namespaces_mut().as_mut()?;
        let is_network = |typ| typ == LinuxNamespaceType::Network;
        let network = namespaces.iter().find(|it| is_network(it.typ())).and_then(|it| it.path().clone());
        namespaces.retain(|namespace| !is_network(namespace.typ()));
        let sysctls = linux.sysctl().clone().unwrap_or_default();
        linux.set_sysctl(None);
        for mount in spec.mounts_mut().iter_mut().flatten() {
            if mount.typ().as_deref() == Some("sysfs") {
                let options = ["rbind", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned).to_vec();
                // Not of the type `bind`: it is made on the stage, not brought from the host.
                mount.set_typ(Some("none".to_owned())).set_source(Some(KERNEL.into()));
                mount.set_options(Some(options));
            }
        }
        Some(Self { ids: (mapping.host_id(), mapping.size()), network, sysctls })
    }

    /// What of the host it needs besides.
    pub(super) fn brought() -> Vec<Brought> {
        DEVICES.iter().map(|device| Brought::as_it_is(Path::new(device))).collect()
    }

    /// The user namespace by whose ids binds are shown.
    pub(super) fn ids(&self) -> io::Result<File> {
        user_namespace::make(self.ids.0, self.ids.1)
    }

    /// The network namespace, to be opened while the host's paths are there.
    pub(super) fn network(&self) -> io::Result<Option<File>> {
        self.network.as_ref().map(File::open).transpose()
    }

    /// Joins `network` or makes one, as the host's root and on the stage.
    pub(super) fn join(&self, network: Option<File>) -> io::Result<()> {
        match network {
            Some(network) => setns(network, CloneFlags::CLONE_NEWNET)?,
            None => unshare(CloneFlags::CLONE_NEWNET)?,
        }
        for (key, value) in &self.sysctls {
            fs::write(Path::new("/proc/sys").join(key.replace('.', "/")), value)?;
        }
        fs::create_dir(KERNEL)?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY;
        mount(Some("sysfs"), KERNEL, Some("sysfs"), flags, None::<&str>)?;
        Ok(())
    }
}
