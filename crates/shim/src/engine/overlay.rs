//! `overlay`: mounts the rootfs of a container with a user namespace. The image's layers are shown to it with its ids
//! by mapped mounts, so that nothing of them is copied or changed, and layers stay shared by everybody.
//!
//! It works in a mount namespace of its own, and only the finished rootfs comes out: a crash leaves nothing behind.
//! It refuses layers on file systems whose mounts can't be mapped.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    unistd::chdir,
};
use serde::Deserialize;

use super::{cgroup::MOUNTS, tree::Tree, user_namespace};

/// What standard input says, as JSON.
#[derive(Debug, Deserialize)]
struct Request {
    /// The image's layers, bottom first; absolute.
    layers: Vec<PathBuf>,
    /// The bundle's directory, with `upper`, `work` and `rootfs`; absolute.
    directory: PathBuf,
    /// Id on the host of the container's root.
    first: u32,
    /// How many ids the container has.
    count: u32,
}

/// Why the rootfs is not mounted.
#[derive(Debug, thiserror::Error)]
pub(super) enum OverlayError {
    /// Standard input is not a request.
    #[error("the request can't be read")]
    Request(#[source] serde_json::Error),
    /// No user namespace to map by.
    #[error("no user namespace can be made")]
    UserNamespace(#[source] io::Error),
    /// No mount namespace to work in.
    #[error("no mount namespace can be had")]
    MountNamespace(#[source] io::Error),
    /// A layer can't be shown with other ids.
    #[error("{} can't be mounted with mapped ids: its file system may not know how", path.display())]
    Layer {
        /// The layer.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The overlay can't be mounted.
    #[error("the overlay can't be mounted at {}", path.display())]
    Mount {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Mounts what standard input asks for.
pub(super) fn overlay() -> Result<(), OverlayError> {
    let request: Request = serde_json::from_reader(io::stdin().lock()).map_err(OverlayError::Request)?;
    let ids = user_namespace::make(request.first, request.count).map_err(OverlayError::UserNamespace)?;
    let host = enter_own_namespace().map_err(OverlayError::MountNamespace)?;
    for (index, layer) in request.layers.iter().enumerate() {
        map_layer(layer, &ids, Path::new(&index.to_string()))
            .map_err(|source| OverlayError::Layer { path: layer.clone(), source })?;
    }
    let rootfs = request.directory.join("rootfs");
    bring_out(&request, host, &rootfs).map_err(|source| OverlayError::Mount { path: rootfs, source })
}

/// Enters a private mount namespace, in an empty directory; the namespace of before.
fn enter_own_namespace() -> io::Result<File> {
    let host = File::open("/proc/self/ns/mnt")?;
    unshare(CloneFlags::CLONE_NEWNS)?;
    let nothing: Option<&str> = None;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
    // Any directory does as a place to build on, and this one is there.
    mount(Some("tmpfs"), MOUNTS, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=700"))?;
    chdir(MOUNTS)?;
    Ok(host)
}

fn map_layer(layer: &Path, ids: &File, place: &Path) -> io::Result<()> {
    let tree = Tree::copy(layer)?;
    tree.map_ids(ids)?;
    fs::create_dir(place)?;
    tree.attach(place)
}

/// Mounts the overlay here, and attaches it at `rootfs` in the namespace `host`.
fn bring_out(request: &Request, host: File, rootfs: &Path) -> io::Result<()> {
    let open = |name: &str| {
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        OpenOptions::new().read(true).custom_flags(flags).open(request.directory.join(name))
    };
    let (upper, work) = (open("upper")?, open("work")?);
    let lowers: Vec<_> = (0..request.layers.len()).rev().map(|index| index.to_string()).collect();
    let options = format!(
        "lowerdir={},upperdir=/proc/self/fd/{},workdir=/proc/self/fd/{}",
        lowers.join(":"),
        upper.as_raw_fd(),
        work.as_raw_fd()
    );
    fs::create_dir("root")?;
    // Device nodes of an image must not open devices of the host.
    mount(Some("overlay"), "root", Some("overlay"), MsFlags::MS_NODEV, Some(options.as_str()))?;
    let tree = Tree::copy(Path::new("root"))?;
    setns(host, CloneFlags::CLONE_NEWNS)?;
    tree.attach(rootfs)
}
