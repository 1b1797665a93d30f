//! What is mounted in a workload: the kernel's file systems, the files in `/etc` that the node writes, and what the
//! spec asks for.
//!
//! Places are looked up in the image as the workload will see it, so that `config.json` has none with a link in it. It
//! refuses places that an image leads into `/proc`, `/sys` or `/dev`, host directories that aren't there, and those in
//! which the node keeps its own things.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use hypercore_model::{Mount as Wanted, MountSource, mount::VolumeName, user::User};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use oci_spec::runtime::Mount;

use super::{
    BundleError, BundleRequest, Mapping,
    rootfs::{Kind, Root},
};
use crate::volume::{Ownership, VolumeError};

/// Files of the workload's directory that are bound over those of the image.
const HOSTS_FILES: [&str; 3] = ["resolv.conf", "hosts", "hostname"];

/// File systems of their own: destination, type, options.
const FILE_SYSTEMS: [(&str, &str, &[&str]); 6] = [
    ("/proc", "proc", &["nosuid", "noexec", "nodev"]),
    ("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
    ("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
    ("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    ("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
];

/// Places that belong to the kernel: the top directory of each.
const KERNELS: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Why something can't be mounted as asked for.
#[derive(Debug, thiserror::Error)]
pub enum MountFault {
    /// A host path that isn't there, or can't be reached.
    #[error("the host has no {} to mount at {target}", path.display())]
    Source {
        /// The host path that was asked for.
        path: PathBuf,
        /// Where it was to appear.
        target: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A host path in which the node keeps its own things.
    #[error("{} belongs to the node itself: no workload may have it", .0.display())]
    Reserved(PathBuf),
    /// The place is one of the kernel's.
    #[error("nothing can be mounted at {target}: it is the kernel's own{}", of_link(.target, .place))]
    Kernels {
        /// Where it was to appear.
        target: String,
        /// Where the image's links lead it.
        place: PathBuf,
    },
    /// The place can't be looked up in the image.
    #[error("{target} can't be found in the image")]
    Place {
        /// Where it was to appear.
        target: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A directory can't cover a file, nor a file a directory.
    #[error("{target} is {inside} in the image, and what is to be mounted there is {outside}")]
    Kind {
        /// Where it was to appear.
        target: String,
        /// What the image has there.
        inside: &'static str,
        /// What was to be mounted.
        outside: &'static str,
    },
    /// The volume can't be had.
    #[error("the volume {name} can't be used")]
    Volume {
        /// Which volume.
        name: VolumeName,
        /// Why.
        #[source]
        source: VolumeError,
    },
}

fn of_link(target: &str, place: &Path) -> String {
    if Path::new(target) == place {
        String::new()
    } else {
        format!(" (the image's links lead to {})", place.display())
    }
}

/// Everything to mount, in order: what comes later may lie in what came before.
/// `first` is the id of the workload's root on the host, if it has a user namespace.
pub(super) fn mounts(
    request: &BundleRequest<'_>,
    root: &Root,
    first: Option<u32>,
) -> Result<Vec<Mount>, BundleError> {
    for place in KERNELS {
        // An image could lead the kernel's file systems elsewhere, and what is made in them with them.
        root.check_own_directory(place)?;
    }
    let mut mounts: Vec<Mount> = FILE_SYSTEMS
        .iter()
        .map(|&(destination, typ, options)| mount(Path::new(destination), typ, Path::new(typ), options))
        .collect();
    // On cgroup v1 it would take one mount per controller, and they can't be made read-only there.
    if statfs("/sys/fs/cgroup").is_ok_and(|stat| stat.filesystem_type() == CGROUP2_SUPER_MAGIC) {
        let options = ["nosuid", "noexec", "nodev", "ro"];
        mounts.push(mount(Path::new("/sys/fs/cgroup"), "cgroup", Path::new("cgroup"), &options));
    }
    mounts.extend(hosts_files(request, root)?);
    mounts.extend(wanted(request, root, first)?);
    Ok(mounts)
}

/// Whether `workdir` lies in one of `mounts`, where nothing of the image is seen. It is made there for `user`, if what is
/// mounted can be written to: mounted files keep plain ids, also below a user namespace.
///
/// # Errors
/// It is missing in what is mounted there, and can't be made.
pub(super) fn hold(mounts: &[Mount], workdir: &Path, root: &Root, user: &User) -> Result<bool, BundleError> {
    let Ok((place, _)) = root.locate(workdir) else { return Ok(false) };
    let around = mounts.iter().rev().find(|mount| place.starts_with(mount.destination()));
    let Some(mount) = around else { return Ok(false) };
    let below = place.strip_prefix(mount.destination()).unwrap_or(&place);
    let is_read_only =
        mount.options().iter().flatten().any(|option| ["ro", "rro"].contains(&option.as_str()));
    let is_there = match (mount.typ().as_deref(), mount.source()) {
        (Some("bind"), Some(source)) if !is_read_only && source.is_dir() => {
            Root::open(source)?.make_workdir(below, user, 0)?;
            true
        }
        (Some("bind"), Some(source)) => source.join(below).is_dir(),
        (Some("tmpfs"), _) => below.as_os_str().is_empty() || place.starts_with("/dev"),
        _ => true,
    };
    if is_there {
        return Ok(true);
    }
    Err(BundleError::Workdir { path: workdir.display().to_string(), source: io::ErrorKind::NotFound.into() })
}

fn hosts_files(request: &BundleRequest<'_>, root: &Root) -> Result<Vec<Mount>, MountFault> {
    let mut options = vec!["bind", "nosuid", "noexec", "nodev"];
    options.extend(request.spec.read_only_rootfs.then_some("ro"));
    let mut mounts = Vec::new();
    for name in HOSTS_FILES {
        let source = request.directory.join(name);
        if source.is_file() {
            let place = place(&format!("/etc/{name}"), Kind::File, root)?;
            mounts.push(mount(&place, "bind", &source, &options));
        }
    }
    Ok(mounts)
}

/// What the spec asks for; directories before what lies in them.
fn wanted(request: &BundleRequest<'_>, root: &Root, first: Option<u32>) -> Result<Vec<Mount>, MountFault> {
    let mut wanted: Vec<&Wanted> = request.spec.mounts.iter().collect();
    wanted.sort_by_key(|mount| Path::new(&mount.target).components().count());
    wanted.into_iter().map(|mount| one(mount, request, root, first)).collect()
}

fn one(
    wanted: &Wanted,
    request: &BundleRequest<'_>,
    root: &Root,
    first: Option<u32>,
) -> Result<Mount, MountFault> {
    match &wanted.source {
        MountSource::Bind(path) => {
            let (source, is_directory) = host_path(path, &wanted.target, request.reserved)?;
            let kind = if is_directory { Kind::Directory } else { Kind::File };
            Ok(bind(&source, &place(&wanted.target, kind, root)?, wanted.read_only))
        }
        MountSource::Volume(name) => {
            let place = place(&wanted.target, Kind::Directory, root)?;
            // A volume that can't be written to is not there to be filled.
            let content = (!wanted.read_only).then(|| root.directory_at(&place)).flatten();
            let taken = request.volumes.take(name, content.as_deref(), ownership(first));
            let data = taken.map_err(|source| MountFault::Volume { name: name.clone(), source })?;
            Ok(bind(&data, &place, wanted.read_only))
        }
        MountSource::Tmpfs { size_bytes } => {
            let place = place(&wanted.target, Kind::Directory, root)?;
            let half_of_memory = || request.spec.memory.map(|memory| memory.bytes() / 2);
            let size = size_bytes.or_else(half_of_memory).map(|bytes| format!("size={bytes}"));
            let mut options = vec!["nosuid", "noexec", "nodev", "mode=1777"];
            options.extend(size.as_deref());
            options.extend(wanted.read_only.then_some("ro"));
            Ok(mount(&place, "tmpfs", Path::new("tmpfs"), &options))
        }
    }
}

/// The host path as it is without links, and whether it is a directory.
///
/// # Errors
/// [`MountFault::Source`], or [`MountFault::Reserved`] for one of the node's own.
pub(crate) fn host_path(
    path: &Path,
    target: &str,
    reserved: &[PathBuf],
) -> Result<(PathBuf, bool), MountFault> {
    let located = fs::canonicalize(path).and_then(|real| Ok((fs::metadata(&real)?.is_dir(), real)));
    let (is_directory, real) = located.map_err(|source| MountFault::Source {
        path: path.to_owned(),
        target: target.to_owned(),
        source,
    })?;
    if reserved.iter().any(|own| real.starts_with(fs::canonicalize(own).as_deref().unwrap_or(own))) {
        return Err(MountFault::Reserved(path.to_owned()));
    }
    Ok((real, is_directory))
}

/// Where `target` is in the image, all links followed.
fn place(target: &str, kind: Kind, root: &Root) -> Result<PathBuf, MountFault> {
    // What is in `/dev` is made by the engine, whatever the image has there.
    let below_dev =
        Path::new(target).strip_prefix("/dev").is_ok_and(|rest| rest.components().next().is_some());
    if below_dev {
        return Ok(PathBuf::from(target));
    }
    let located = root.locate(Path::new(target));
    let (place, inside) =
        located.map_err(|errno| MountFault::Place { target: target.to_owned(), source: errno.into() })?;
    if KERNELS.iter().any(|own| place.starts_with(own)) {
        return Err(MountFault::Kernels { target: target.to_owned(), place });
    }
    match inside {
        Some(inside) if inside != kind => Err(MountFault::Kind {
            target: target.to_owned(),
            inside: inside.as_str(),
            outside: kind.as_str(),
        }),
        _ => Ok(place),
    }
}

/// Whom files of the mounted image belong to.
fn ownership(first: Option<u32>) -> Ownership {
    first.map_or(Ownership::AsInImage, |first| Ownership::Shifted { first, count: Mapping::COUNT })
}

/// A directory or file of the host, with all that is mounted below it. Neither devices nor set-uid programs count.
fn bind(source: &Path, place: &Path, read_only: bool) -> Mount {
    let mut options = vec!["rbind", "nosuid", "nodev"];
    // `rro`: also what is mounted below it.
    options.extend(read_only.then_some("rro"));
    mount(place, "bind", source, &options)
}

fn mount(destination: &Path, typ: &str, source: &Path, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(destination.to_owned())
        .set_typ(Some(typ.to_owned()))
        .set_source(Some(source.to_owned()))
        .set_options(Some(options.iter().map(|&option| option.to_owned()).collect()));
    mount
}
