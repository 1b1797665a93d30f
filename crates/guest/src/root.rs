//! The workload's root: the image, which all machines share and nobody writes to, under a layer that is this machine's
//! own. It refuses to look for anything but the disks that the host named.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount},
    sys::stat::{Mode, SFlag, makedev, mknod},
};

use crate::hints;

/// Where the workload's root is mounted.
pub(crate) const ROOT: &str = "/root";
/// Where the writable layer is mounted.
pub(crate) const WRITABLE: &str = "/writable";
/// Where the image is mounted.
const IMAGE: &str = "/image";
/// The serial of the disk with the image.
const IMAGE_SERIAL: &str = "image";
/// The serial of the disk with the writable layer.
const WRITABLE_SERIAL: &str = "writable";

/// Why there is no root.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootError {
    /// The host gave no disk of that serial.
    #[error("the machine has no disk with the serial `{0}`")]
    Disk(String),
    /// One of the mounts.
    #[error("{what} can't be mounted: {source}")]
    Mount {
        /// Which one.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// The devices that every workload gets.
    #[error("the devices can't be made: {0}")]
    Devices(#[source] io::Error),
}

/// Mounts the root and what every workload finds in it.
pub(crate) fn assemble() -> Result<(), RootError> {
    attach(&disk(IMAGE_SERIAL)?, IMAGE, "ext4", MsFlags::MS_RDONLY, "")?;
    attach(&disk(WRITABLE_SERIAL)?, WRITABLE, "ext4", MsFlags::empty(), "")?;
    for directory in ["upper", "work"] {
        fs::create_dir_all(Path::new(WRITABLE).join(directory))
            .map_err(|source| failed("the writable layer", source))?;
    }
    let options = format!("lowerdir={IMAGE},upperdir={WRITABLE}/upper,workdir={WRITABLE}/work");
    attach(Path::new("overlay"), ROOT, "overlay", MsFlags::empty(), &options)?;
    let (quiet, inert) = (MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, MsFlags::MS_NOSUID | MsFlags::MS_NODEV);
    for (kind, target, flags, options) in [
        ("proc", "proc", quiet | MsFlags::MS_NODEV, ""),
        ("sysfs", "sys", quiet | MsFlags::MS_NODEV | MsFlags::MS_RDONLY, ""),
        ("tmpfs", "dev", quiet, "mode=0755,size=65536k"),
        ("devpts", "dev/pts", quiet, "newinstance,ptmxmode=0666,mode=0620,gid=5"),
        ("tmpfs", "dev/shm", inert | MsFlags::MS_NOEXEC, "mode=1777,size=65536k"),
    ] {
        attach(Path::new(kind), &format!("{ROOT}/{target}"), kind, flags, options)?;
    }
    make_devices(&Path::new(ROOT).join("dev")).map_err(RootError::Devices)
}

/// Lets nobody write to the root any more; what is mounted on it stays as it is.
pub(crate) fn seal() -> Result<(), RootError> {
    remount(MsFlags::MS_RDONLY)
}

/// Lets the agent write to it again. The workload's processes have mounts of their own, for which nothing changes.
pub(crate) fn unseal() -> Result<(), RootError> {
    remount(MsFlags::empty())
}

fn remount(flags: MsFlags) -> Result<(), RootError> {
    let flags = flags | MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
    let remounted = mount(None::<&str>, ROOT, None::<&str>, flags, None::<&str>);
    remounted.map_err(|error| failed("the read-only root", error.into()))
}

/// Mounts `source` on `target`, a directory of the agent's that is made when it isn't there.
pub(crate) fn attach(
    source: &Path,
    target: &str,
    kind: &str,
    flags: MsFlags,
    options: &str,
) -> Result<(), RootError> {
    let made = fs::create_dir_all(target);
    let mounted = made.and_then(|()| Ok(mount(Some(source), target, Some(kind), flags, Some(options))?));
    mounted.map_err(|error| failed(target, error))
}

/// The disk that the host gave this serial, or this place in their order.
pub(crate) fn disk(serial: &str) -> Result<PathBuf, RootError> {
    let devices = fs::read_dir("/sys/block").ok().into_iter().flatten().flatten();
    let names: Vec<_> = devices.filter_map(|device| device.file_name().into_string().ok()).collect();
    let has_serial = |name: &&String| {
        let text = fs::read_to_string(Path::new("/sys/block").join(name).join("serial"));
        text.is_ok_and(|text| text.trim_matches(['\n', '\0', ' ']) == serial)
    };
    let by_serial = names.iter().find(has_serial).cloned();
    let found = by_serial.or_else(|| hints::nth_disk(names, hints::place_of_disk(serial)?));
    found.map(|name| Path::new("/dev").join(name)).ok_or_else(|| RootError::Disk(serial.to_owned()))
}

fn failed(what: &str, source: io::Error) -> RootError {
    RootError::Mount { what: what.to_owned(), source }
}

/// The devices of the OCI runtime specification ("Default Devices") and the links that go with them.
fn make_devices(dev: &Path) -> io::Result<()> {
    for (name, major, minor) in
        [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)]
    {
        let path = dev.join(name);
        mknod(&path, SFlag::S_IFCHR, Mode::empty(), makedev(major, minor))?;
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
    }
    for (name, target) in [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("core", "/proc/kcore"),
    ] {
        symlink(target, dev.join(name))?;
    }
    Ok(())
}
