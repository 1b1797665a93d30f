//! A root of its own in which `libcontainer` finds what one container needs, and nothing else of the host.
//!
//! ```text
//!   / (tmpfs)   bundle/config.json   the runtime spec, without limits
//!               proc/                the host's
//!               sys/fs/cgroup/       empty: taken for a host without controllers
//!               ...                  the container's state, rootfs, namespaces, sockets, at their usual paths
//! ```
//!
//! Two things need it. The engine has put the process into its cgroups already (see [`super::cgroup`]); `libcontainer`
//! would do it again, slowly, if it saw them. And it reads the mount table more than ten times, which on a host with a
//! hundred containers costs more than the whole start: in here the table is short.
//!
//! It refuses to let anything of this reach the host: the namespace is private, and gone with its last process.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use libcontainer::oci_spec::runtime::{Mount, Spec};
use nix::{
    fcntl::{OFlag, open},
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    sys::stat::Mode,
    unistd::{fchdir, pivot_root},
};

use super::cgroup::MOUNTS;

/// The bundle on the stage.
pub(super) const BUNDLE: &str = "/bundle";

/// Why there is no stage.
#[derive(Debug, thiserror::Error)]
pub(super) enum StageError {
    /// No mount namespace of its own.
    #[error("no mount namespace")]
    Namespace(#[source] nix::Error),
    /// The new root can't be mounted or entered.
    #[error("the new root can't be entered")]
    Root(#[source] nix::Error),
    /// Something the container needs can't be brought along.
    #[error("{} can't be brought along", path.display())]
    Bring {
        /// The path on the host.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The spec can't be written.
    #[error("the runtime spec can't be written")]
    Write(#[source] io::Error),
}

/// What goes on the stage.
#[derive(Debug)]
pub(super) struct Stage {
    /// The runtime spec in JSON, as [`adapt`] made it.
    pub(super) config: Vec<u8>,
    /// Absolute paths of the host, with all that is mounted below them.
    pub(super) paths: Vec<PathBuf>,
}

impl Stage {
    /// Moves this process, which must have a single thread, onto the stage.
    pub(super) fn enter(&self) -> Result<(), StageError> {
        let sources = self.sources()?;
        leave_for_own_namespace().map_err(StageError::Namespace)?;
        // Any directory does as a place to build on, and this one is there.
        let root = relative(Path::new(MOUNTS));
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("tmpfs"), root, Some("tmpfs"), flags, Some("mode=755,size=8m"))
            .map_err(StageError::Root)?;
        for (path, source) in sources {
            bring(root, &path, relative(&source)).map_err(|source| StageError::Bring { path, source })?;
        }
        self.write(root).map_err(StageError::Write)?;
        turn_to(root).map_err(StageError::Root)
    }

    /// What is brought, in the order of paths, each with where it really lies: links must be followed before the root
    /// changes. A directory comes before what is in it, and would cover it otherwise.
    fn sources(&self) -> Result<BTreeMap<PathBuf, PathBuf>, StageError> {
        let paths = self.paths.iter().cloned().chain([PathBuf::from("/proc")]);
        let located = paths.map(|path| match fs::canonicalize(&path) {
            Ok(source) => Ok((path, source)),
            Err(source) => Err(StageError::Bring { path, source }),
        });
        located.collect()
    }

    fn write(&self, root: &Path) -> io::Result<()> {
        fs::create_dir_all(below(root, Path::new(MOUNTS)))?;
        let bundle = below(root, Path::new(BUNDLE));
        fs::create_dir(&bundle)?;
        fs::write(bundle.join("config.json"), &self.config)
    }
}

/// The spec as `libcontainer` is to see it: no limits, the rootfs by its full path, and no mount that asks it which
/// version of cgroups the host has.
pub(super) fn adapt(mut spec: Spec, bundle: &Path) -> Spec {
    if let Some(linux) = spec.linux_mut() {
        linux.set_resources(None);
    }
    if let Some(root) = spec.root_mut() {
        let path: PathBuf = bundle.join(root.path());
        root.set_path(path);
    }
    for mount in spec.mounts_mut().iter_mut().flatten() {
        // Only hosts with v2 alone have this mount in their specs.
        if mount.typ().as_deref() == Some("cgroup") {
            mount.set_typ(Some("cgroup2".to_owned()));
        }
    }
    spec
}

/// The paths of the host that `spec` (after [`adapt`]) speaks of.
pub(super) fn paths_of(spec: &Spec) -> Vec<PathBuf> {
    let is_bind = |mount: &&Mount| mount.typ().as_deref() == Some("bind");
    let root = spec.root().iter().map(|root| root.path().clone());
    let sources = spec.mounts().iter().flatten().filter(is_bind).filter_map(|mount| mount.source().clone());
    let namespaces = spec.linux().iter().filter_map(|linux| linux.namespaces().as_ref()).flatten();
    let joined = namespaces.filter_map(|namespace| namespace.path().clone());
    root.chain(sources).chain(joined).collect()
}

/// Moves this process into a mount namespace of its own, whose mounts don't reach the host, with the root of before as
/// its working directory. That root may be a directory like any other (a chroot), which could neither be made private
/// nor be pivoted away from: joining one's own namespace leads to its real root.
fn leave_for_own_namespace() -> nix::Result<()> {
    let nothing: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let before = open("/", flags | OFlag::O_DIRECTORY, Mode::empty())?;
    let own = open("/proc/self/ns/mnt", flags, Mode::empty())?;
    setns(own, CloneFlags::CLONE_NEWNS)?;
    fchdir(before)?;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)
}

/// Binds `source` to `path` below `root`.
fn bring(root: &Path, path: &Path, source: &Path) -> io::Result<()> {
    let target = below(root, path);
    let is_directory = fs::metadata(source)?.is_dir();
    // Where a directory above was brought, it is there already.
    if !target.exists() {
        if is_directory {
            fs::create_dir_all(&target)?;
        } else {
            fs::create_dir_all(target.parent().unwrap_or(root))?;
            File::create(&target)?;
        }
    }
    let nothing: Option<&str> = None;
    mount(Some(source), &target, nothing, MsFlags::MS_BIND | MsFlags::MS_REC, nothing)?;
    Ok(())
}

fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(relative(path))
}

/// An absolute path, from the working directory that [`leave_for_own_namespace`] leaves.
fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// Makes `root` the root, and drops everything else.
fn turn_to(root: &Path) -> nix::Result<()> {
    nix::unistd::chdir(root)?;
    // The old root comes to lie over the new one, where "." still finds it (pivot_root(2), "pivot_root(".", ".")").
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    nix::unistd::chdir("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spec_loses_its_limits_and_tells_what_it_needs() {
        let spec: Spec = serde_json::from_str(
            r#"{"ociVersion":"1.1.0","root":{"path":"rootfs"},"hostname":"web",
                "mounts":[{"destination":"/etc/hosts","type":"bind","source":"/w/hosts"},{"destination":"/sys/fs/cgroup","type":"cgroup","source":"cgroup"}],
                "linux":{"cgroupsPath":"/a/b","namespaces":[{"type":"pid"},{"type":"network","path":"/n/x"}],"resources":{"pids":{"limit":1}}}}"#,
        )
        .unwrap();
        let adapted = adapt(spec, Path::new("/bundle"));
        assert_eq!(adapted.root().as_ref().unwrap().path(), Path::new("/bundle/rootfs"));
        assert_eq!(adapted.hostname().as_deref(), Some("web"));
        let linux = adapted.linux().as_ref().unwrap();
        assert_eq!(linux.resources(), &None);
        assert_eq!(linux.cgroups_path().as_deref(), Some(Path::new("/a/b")));
        assert_eq!(adapted.mounts().as_ref().unwrap()[1].typ().as_deref(), Some("cgroup2"));
        assert_eq!(paths_of(&adapted), ["/bundle/rootfs", "/w/hosts", "/n/x"].map(PathBuf::from));
    }
}
