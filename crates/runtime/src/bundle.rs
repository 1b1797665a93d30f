//! Bundles: an image and a [`WorkloadSpec`] become a mounted rootfs and an OCI runtime `config.json`.
//!
//! ```text
//!   workloads/<id>/   config.json    what the engine reads
//!                     rootfs/        overlay of the image's layers (below) and upper/ (above)
//!                     upper/ work/   what the workload wrote
//!                     hosts hostname resolv.conf   bound over those of the image, where they are there
//! ```
//!
//! It refuses to start anything, and to follow a link of the image out of its rootfs: whatever is read from or made
//! in there is resolved below the root by the kernel (`openat2`, `RESOLVE_IN_ROOT`).

mod config;
mod mounts;
mod overlay;
mod process;
mod rights;
mod rootfs;
mod stop_signal;
mod stopped;

use std::{
    io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use hypercore_model::{WorkloadId, WorkloadSpec, user::UserError};
use oci_spec::{image::ImageConfiguration, runtime::LinuxResources};

pub use mounts::MountFault;
pub(crate) use mounts::host_path;
pub use process::{argv, environment, workdir};
pub use stopped::stopped_root;

use crate::volume::VolumeStore;

/// Everything that makes one bundle.
#[derive(Debug, Clone)]
pub struct BundleRequest<'a> {
    /// Whose bundle it is.
    pub id: WorkloadId,
    /// What was asked for.
    pub spec: &'a WorkloadSpec,
    /// What the image says.
    pub image: &'a ImageConfiguration,
    /// The image's unpacked layers, bottom first.
    pub layers: &'a [PathBuf],
    /// The workload's own directory; absolute. `hosts`, `hostname` and `resolv.conf` in it are bound into `/etc`.
    pub directory: &'a Path,
    /// Where `config.json` really is, because of the environment in it: a directory in memory. The one beside the rootfs
    /// is a link.
    pub memory_directory: &'a Path,
    /// The node's volumes.
    pub volumes: &'a VolumeStore,
    /// Directories in which the node keeps its own things: nothing of them can be mounted.
    pub reserved: &'a [PathBuf],
    /// Whom its users are on the host, if it is to have a user namespace.
    pub mapping: Option<Mapping<'a>>,
    /// The network namespace to join; `None` gives an own one without any interface but a `lo` that is down.
    pub netns: Option<&'a Path>,
    /// The workload's cgroup, relative to the mounts of the hierarchies, beginning with `/`.
    pub cgroup_path: &'a str,
    /// Limits of that cgroup. Devices beyond the default ones are denied whatever it says.
    pub resources: LinuxResources,
}

/// How a workload gets a user namespace.
#[derive(Debug, Clone, Copy)]
pub struct Mapping<'a> {
    /// Id on the host of the workload's root, users and groups alike; the further [`Mapping::COUNT`] follow it. What a
    /// workload has written already keeps the one that it began with.
    pub first: u32,
    /// The engine, which mounts its root.
    pub engine: &'a Path,
}

impl Mapping<'_> {
    /// How many ids a workload has.
    pub const COUNT: u32 = 65_536;

    /// The first of all ids given to workloads. From here up to 0x7ffe_0000 systemd's list of well-known ranges
    /// (UIDS-GIDS) has nobody.
    const BEGIN: u32 = 0x7000_0000;
    /// How many workloads have ids of their own at a time.
    const WORKLOADS_MAX: u32 = 4094;

    /// The first id for the workload with this address: no two share ids in a subnet of up to 4,094 addresses.
    #[must_use]
    pub fn first_of(address: Ipv4Addr) -> u32 {
        Self::BEGIN + address.to_bits() % Self::WORKLOADS_MAX * Self::COUNT
    }
}

const _: () =
    assert!(Mapping::BEGIN as u64 + Mapping::WORKLOADS_MAX as u64 * Mapping::COUNT as u64 <= 0x7ffe_0000);

/// A bundle that is ready for the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The workload's own directory, with `config.json` and the mounted `rootfs`.
    pub directory: PathBuf,
    /// The signal that asks the first process to end: the spec's, or the image's, or SIGTERM.
    pub stop_signal: i32,
}

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Neither the image nor the spec says what to run.
    #[error("the image has no entrypoint and no command, and none was given")]
    NoCommand,
    /// The image has no layers.
    #[error("the image has no layers")]
    NoLayers,
    /// More layers than the kernel takes in one mount.
    #[error("the image has {0} layers; that is more than one overlay mount can take")]
    TooManyLayers(usize),
    /// A layer's directory can't be opened.
    #[error("the layer {} can't be opened", path.display())]
    Layer {
        /// The layer.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A directory of the bundle can't be made.
    #[error("{} can't be made", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The overlay can't be mounted.
    #[error("the overlay can't be mounted at {}", path.display())]
    Mount {
        /// The mount point.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The root of a workload with a user namespace can't be mounted.
    #[error("the root can't be mounted with a user namespace: {0}")]
    Mapped(String),
    /// `/etc/passwd` or `/etc/group` of the image can't be read.
    #[error("the image's {file} can't be read")]
    Accounts {
        /// Which file.
        file: &'static str,
        /// What the kernel said, or how the file is out of bounds.
        #[source]
        source: io::Error,
    },
    /// The user or group to run as is unknown to the image.
    #[error("the user can't be looked up")]
    User(#[from] UserError),
    /// The working directory is not an absolute path.
    #[error("the working directory `{0}` is not an absolute path")]
    WorkdirRelative(String),
    /// The working directory can't be made, or is not a directory.
    #[error("the working directory {path} can't be used")]
    Workdir {
        /// The path inside the rootfs.
        path: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The image has something else where the kernel's file systems are mounted.
    #[error("the image's {0} is not a directory: the kernel's own is mounted there")]
    NotOwnDirectory(&'static str),
    /// Something can't be mounted as asked for.
    #[error(transparent)]
    Mounted(#[from] MountFault),
    /// The node can't give what it hasn't.
    #[error("the capability {0} can't be added: the node itself doesn't have it")]
    Capability(&'static str),
    /// The image's stop signal is unknown.
    #[error("the image's stop signal `{0}` is not a signal")]
    StopSignal(String),
    /// `config.json` can't be written.
    #[error("{} can't be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the kernel or the encoder said.
        #[source]
        source: io::Error,
    },
}

/// Why a rootfs is still mounted.
#[derive(Debug, thiserror::Error)]
#[error("{} can't be unmounted", path.display())]
pub struct DiscardError {
    /// The mount point.
    pub path: PathBuf,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

/// Mounts the rootfs and writes `config.json`. May be repeated: a rootfs that is mounted already is used as it is, with
/// what the workload wrote. After an error nothing is mounted that wasn't before.
///
/// Blocks on the file system for about a millisecond.
///
/// # Errors
/// One variant for each step; [`BundleError::NoCommand`], [`BundleError::User`], [`BundleError::WorkdirRelative`],
/// [`BundleError::Workdir`] and [`BundleError::Mounted`] are mistakes of whoever wrote the spec or the image.
pub fn prepare(request: &BundleRequest<'_>) -> Result<Bundle, BundleError> {
    let argv = process::argv(request.spec, request.image).ok_or(BundleError::NoCommand)?;
    let stop_signal = stop_signal(request.spec, request.image)?;
    let mounted = overlay::mount(request.layers, request.directory, request.mapping)?;
    let written = write_config(request, argv, mounted.first);
    if let (Err(_), true) = (&written, mounted.is_new) {
        // The error that explains is the one of the failed step; a mount that stays is found by the next discard.
        let _ = discard(request.directory);
    }
    written.map(|()| Bundle { directory: request.directory.to_owned(), stop_signal })
}

/// Mounts the rootfs alone, for who wants its files and not a bundle, and answers where. Fine with one that is mounted.
///
/// # Errors
/// [`BundleError::Directory`], [`BundleError::Layer`], [`BundleError::Mount`] and the limits of layers.
pub fn mount_rootfs(layers: &[PathBuf], directory: &Path) -> Result<PathBuf, BundleError> {
    overlay::mount(layers, directory, None)?;
    Ok(overlay::mount_point(directory))
}

/// As [`mount_rootfs`], for a workload with a user namespace that has run before; mounted by `engine`. Answers also who
/// its root is on the host.
///
/// # Errors
/// As for [`mount_rootfs`], and [`BundleError::Mapped`].
pub fn mount_mapped_rootfs(
    layers: &[PathBuf],
    directory: &Path,
    engine: &Path,
) -> Result<(PathBuf, u32), BundleError> {
    let first = overlay::written_by(directory)?;
    overlay::mount(layers, directory, Some(Mapping { first, engine }))?;
    Ok((overlay::mount_point(directory), first))
}

/// The directory that a mounted rootfs has at `target`, links followed inside the rootfs; `None` if it has none there.
/// It can be reached by this path for as long as nobody writes to the rootfs.
///
/// # Errors
/// [`BundleError::Directory`], when `rootfs` can't be opened.
pub(crate) fn directory_in(rootfs: &Path, target: &str) -> Result<Option<PathBuf>, BundleError> {
    let located = rootfs::Root::open(rootfs)?.locate(Path::new(target));
    Ok(match located {
        Ok((place, Some(rootfs::Kind::Directory))) => {
            Some(rootfs.join(place.strip_prefix("/").unwrap_or(&place)))
        }
        _ => None,
    })
}

/// Unmounts the rootfs of the bundle in `directory`; files stay. Fine with a bundle that was never prepared.
/// A process that still uses the rootfs keeps it for itself, invisibly, until it ends.
///
/// # Errors
/// Only if the kernel refuses; it doesn't because of files in use.
pub fn discard(directory: &Path) -> Result<(), DiscardError> {
    overlay::unmount(directory)
}

/// The signal that asks the first process to end: the spec's, or the image's, or SIGTERM.
///
/// # Errors
/// [`BundleError::StopSignal`].
pub fn stop_signal(spec: &WorkloadSpec, image: &ImageConfiguration) -> Result<i32, BundleError> {
    spec.stop_signal.map_or_else(|| stop_signal::parse(image), Ok)
}

/// The host name inside: as asked for, or the workload's name, or its short id.
#[must_use]
pub fn hostname(id: WorkloadId, spec: &WorkloadSpec) -> String {
    let given = spec.hostname.as_ref().or(spec.name.as_ref());
    given.map_or_else(|| id.short(), ToString::to_string)
}

fn write_config(
    request: &BundleRequest<'_>,
    argv: Vec<String>,
    first: Option<u32>,
) -> Result<(), BundleError> {
    let root = rootfs::Root::open(&overlay::mount_point(request.directory))?;
    let user = process::user(request.spec, request.image, &root)?;
    let workdir = process::workdir(request.spec, request.image)?;
    let mounts = mounts::mounts(request, &root, first)?;
    if !mounts::hold(&mounts, &workdir, &root, &user)? {
        root.make_workdir(&workdir, &user, first.unwrap_or(0))?;
    }
    let process = process::process(request, argv, &user, workdir)?;
    config::write(request, process, mounts, first)
}
