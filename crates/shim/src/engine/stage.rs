//! A root of its own in which `libcontainer` finds what one container needs, and nothing else of the host.
//!
//! ```text
//!   / (tmpfs)   bundle/config.json   the runtime spec, without limits
//!               mounts/<n>           what the container gets bound, whatever its path on the host
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

use libcontainer::oci_spec::runtime::Spec;
use nix::{
    fcntl::{OFlag, open},
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    sys::stat::Mode,
    unistd::{fchdir, pivot_root},
};

use super::{cgroup::MOUNTS, mapped::Mapped, tree::Tree};

/// The bundle on the stage.
pub(super) const BUNDLE: &str = "/bundle";

/// What the container gets bound, on the stage.
const BINDS: &str = "/mounts";

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
    /// What a user namespace needs besides can't be had.
    #[error("the container's user namespace can't be served")]
    Mapped(#[source] io::Error),
    /// The spec can't be written.
    #[error("the runtime spec can't be written")]
    Write(#[source] io::Error),
}

/// What goes on the stage.
#[derive(Debug)]
pub(super) struct Stage {
    /// The runtime spec in JSON, as [`adapt`] made it.
    pub(super) config: Vec<u8>,
    /// What of the host goes along, with all that is mounted below it.
    pub(super) brought: Vec<Brought>,
    /// What a user namespace asks for besides.
    pub(super) mapped: Option<Mapped>,
}

/// Something of the host on the stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Brought {
    /// Absolute path on the stage.
    pub(super) at: PathBuf,
    /// Absolute path on the host.
    pub(super) from: PathBuf,
}

impl Brought {
    /// At the path it has on the host.
    pub(super) fn as_it_is(path: &Path) -> Self {
        Self { at: path.to_owned(), from: path.to_owned() }
    }
}

impl Stage {
    /// Moves this process, which must have a single thread, onto the stage.
    pub(super) fn enter(&self) -> Result<(), StageError> {
        let sources = self.sources()?;
        let (ids, network) = self.open_mapped().map_err(StageError::Mapped)?;
        leave_for_own_namespace().map_err(StageError::Namespace)?;
        // Before anything is mounted here, which would come along otherwise.
        let trees = sources.into_iter().map(|(at, from)| match take(&at, &from, ids.as_ref()) {
            Ok(tree) => Ok((at, tree)),
            Err(source) => Err(StageError::Bring { path: from, source }),
        });
        let trees = trees.collect::<Result<Vec<_>, _>>()?;
        // Any directory does as a place to build on, and this one is there.
        let root = relative(Path::new(MOUNTS));
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("tmpfs"), root, Some("tmpfs"), flags, Some("mode=755,size=8m"))
            .map_err(StageError::Root)?;
        for (path, tree) in trees {
            bring(root, &path, tree).map_err(|source| StageError::Bring { path, source })?;
        }
        self.write(root).map_err(StageError::Write)?;
        turn_to(root).map_err(StageError::Root)?;
        if self.brought.iter().any(|brought| brought.at.starts_with(BINDS) && brought.at.is_dir()) {
            drop_cgroups().map_err(StageError::Root)?;
        }
        match &self.mapped {
            Some(mapped) => mapped.join(network).map_err(StageError::Mapped),
            None => Ok(()),
        }
    }

    /// The user namespace for ids, and the network namespace to join, where they are asked for.
    fn open_mapped(&self) -> io::Result<(Option<File>, Option<File>)> {
        let Some(mapped) = &self.mapped else { return Ok((None, None)) };
        Ok((Some(mapped.ids()?), mapped.network()?))
    }

    /// What is brought, in the order of paths, each with where it really lies: links must be followed before the root
    /// changes. A directory comes before what is in it, and would cover it otherwise.
    fn sources(&self) -> Result<BTreeMap<PathBuf, PathBuf>, StageError> {
        let all = self.brought.iter().cloned().chain([Brought::as_it_is(Path::new("/proc"))]);
        let located = all.map(|Brought { at, from }| match fs::canonicalize(&from) {
            Ok(source) => Ok((at, source)),
            Err(source) => Err(StageError::Bring { path: from, source }),
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

/// The spec as `libcontainer` is to see it, and what of the host it speaks of: no limits, the rootfs by its full path,
/// binds from places on the stage that cover nothing else, and no mount that asks which version of cgroups the host has.
pub(super) fn adapt(mut spec: Spec, bundle: &Path) -> (Spec, Vec<Brought>) {
    if let Some(linux) = spec.linux_mut() {
        linux.set_resources(None);
    }
    if let Some(root) = spec.root_mut() {
        let path: PathBuf = bundle.join(root.path());
        root.set_path(path);
    }
    let mut brought = root_and_namespaces(&spec);
    for (index, mount) in spec.mounts_mut().iter_mut().flatten().enumerate() {
        if mount.typ().as_deref() == Some("bind")
            && let Some(from) = mount.source().clone()
        {
            let at = PathBuf::from(format!("{BINDS}/{index}"));
            mount.set_source(Some(at.clone()));
            brought.push(Brought { at, from });
        }
        // Only hosts with v2 alone have this mount in their specs.
        if mount.typ().as_deref() == Some("cgroup") {
            mount.set_typ(Some("cgroup2".to_owned()));
        }
    }
    (spec, brought)
}

/// The rootfs and the namespaces that `spec` (after [`adapt`]) has the container join.
pub(super) fn root_and_namespaces(spec: &Spec) -> Vec<Brought> {
    let root = spec.root().iter().map(|root| Brought::as_it_is(root.path()));
    let namespaces = spec.linux().iter().filter_map(|linux| linux.namespaces().as_ref()).flatten();
    let joined = namespaces.filter_map(|namespace| namespace.path().as_deref().map(Brought::as_it_is));
    root.chain(joined).collect()
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

/// A copy of the mounts at `from`, shown with the ids of `ids` if the container gets it bound.
fn take(at: &Path, from: &Path, ids: Option<&File>) -> io::Result<Tree> {
    let tree = Tree::copy(relative(from))?;
    if let Some(ids) = ids.filter(|_| at.starts_with(BINDS)) {
        tree.map_ids(ids)?;
    }
    Ok(tree)
}

/// Attaches `tree` at `path` below `root`.
fn bring(root: &Path, path: &Path, tree: Tree) -> io::Result<()> {
    let target = below(root, path);
    let is_directory = tree.is_directory()?;
    // Where a directory above was brought, it is there already.
    if !target.exists() {
        if is_directory {
            fs::create_dir_all(&target)?;
        } else {
            fs::create_dir_all(target.parent().unwrap_or(root))?;
            File::create(&target)?;
        }
    }
    tree.attach(&target)
}

fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(relative(path))
}

/// An absolute path, from the working directory that [`leave_for_own_namespace`] leaves.
fn relative(path: &Path) -> &Path {
    match path.strip_prefix("/") {
        Ok(rest) if rest.as_os_str().is_empty() => Path::new("."),
        Ok(rest) => rest,
        Err(_) => path,
    }
}

/// Makes `root` the root, and drops everything else.
fn turn_to(root: &Path) -> nix::Result<()> {
    nix::unistd::chdir(root)?;
    // The old root comes to lie over the new one, where "." still finds it (pivot_root(2), "pivot_root(".", ".")").
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    nix::unistd::chdir("/")
}

/// Unmounts the cgroup hierarchies that came along below host directories: `libcontainer` would use them, and no
/// container shall reach those of others.
fn drop_cgroups() -> nix::Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(|_| nix::Error::EIO)?;
    // proc_pid_mountinfo(5): the fifth field is the place, the type comes after a lone dash. Later ones lie in earlier.
    for line in mounts.lines().rev() {
        let place = line.split(' ').nth(4).unwrap_or_default();
        let is_cgroup = line.split_once(" - ").is_some_and(|(_, rest)| rest.starts_with("cgroup"));
        if is_cgroup && place.starts_with(BINDS) {
            umount2(&PathBuf::from(unescaped(place)), MntFlags::MNT_DETACH)?;
        }
    }
    Ok(())
}

/// A path as mountinfo writes it: blanks, tabs, line ends and backslashes are octal.
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (code, character)| text.replace(code, character))
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
        let (adapted, brought) = adapt(spec, Path::new("/bundle"));
        assert_eq!(adapted.root().as_ref().unwrap().path(), Path::new("/bundle/rootfs"));
        assert_eq!(adapted.hostname().as_deref(), Some("web"));
        let linux = adapted.linux().as_ref().unwrap();
        assert_eq!(linux.resources(), &None);
        assert_eq!(linux.cgroups_path().as_deref(), Some(Path::new("/a/b")));
        assert_eq!(adapted.mounts().as_ref().unwrap()[1].typ().as_deref(), Some("cgroup2"));
        assert_eq!(adapted.mounts().as_ref().unwrap()[0].source().as_deref(), Some(Path::new("/mounts/0")));
        let hosts = Brought { at: "/mounts/0".into(), from: "/w/hosts".into() };
        let same = |path: &str| Brought::as_it_is(Path::new(path));
        assert_eq!(brought, [same("/bundle/rootfs"), same("/n/x"), hosts]);
    }
}
