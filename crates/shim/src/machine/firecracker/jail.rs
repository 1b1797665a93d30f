//! Where Firecracker runs: a directory with a name for everything that the machine is made of, and nothing else. As
//! root it is also all that Firecracker can see: its jailer changes the root and becomes a user that nobody else is.
//!
//! ```text
//!   <workload's directory>/jail/firecracker/<id>/root/   kernel initrd disk0 disk1 ... [state memory]
//!                                                        api.sock vsock.sock saved-state saved-memory
//!   <machine's directory>/jail-root --> root
//! ```
//!
//! All names are relative, with or without the jailer: so a snapshot has no path of its parent's in it. It refuses to
//! believe what is found in the directory later: who broke into Firecracker can put anything there.

use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use hypercore_model::machine::{MachineSpec, Monitor};
use nix::unistd::geteuid;

use super::super::vmm::{Place, VmmError};

/// Names in the jail.
pub(super) const KERNEL: &str = "kernel";
pub(super) const INITRD: &str = "initrd";
pub(super) const STATE: &str = "state";
pub(super) const MEMORY: &str = "memory";
pub(super) const API_SOCKET: &str = "api.sock";
pub(super) const VSOCK: &str = "vsock.sock";
/// What is saved has other names: a machine that resumed still maps the memory it came from.
pub(super) const SAVED_STATE: &str = "saved-state";
pub(super) const SAVED_MEMORY: &str = "saved-memory";
/// The jail below the workload's directory.
const JAIL: &str = "jail";
/// The link to its root in the machine's directory.
const LINK: &str = "jail-root";
/// Firecracker's jailer, which lies beside it.
const JAILER: &str = "jailer";
/// Directories between [`JAIL`] and the root: the program's name, the machine's, and `root`.
const ROOT_DEPTH: usize = 3;

/// A jail that is there.
#[derive(Debug)]
pub(super) struct Jail {
    root: PathBuf,
}

/// The name of a disk in the jail; its place in the order is also that in the guest.
pub(super) fn disk(index: usize) -> String {
    format!("disk{index}")
}

impl Jail {
    /// The jail of a machine that was begun.
    pub(super) fn of(place: &Place) -> Self {
        Self { root: place.directory().join(LINK) }
    }

    /// What has this name in it.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Makes it, anew, and the command that runs Firecracker in it.
    pub(super) fn make(spec: &MachineSpec, place: &Place) -> Result<Command, VmmError> {
        let id = place.directory().file_name().unwrap_or_default();
        let base = spec.console_log.with_file_name(JAIL);
        let program = spec.program.file_name().unwrap_or_default();
        let root = base.join(program).join(id).join("root");
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| VmmError::File { path, source }
        };
        remove_tree(&base).and_then(|()| fs::create_dir_all(&root)).map_err(failed(&root))?;
        let link = place.directory().join(LINK);
        symlink(&root, &link).map_err(failed(&link))?;
        let owner = if geteuid().is_root() { Some(owner(spec)?) } else { None };
        for (name, path, is_writable) in contents(spec) {
            lend(&path, &root.join(name), owner.filter(|_| is_writable)).map_err(failed(&path))?;
        }
        let console =
            File::options().write(true).create(true).truncate(true).mode(0o600).open(&spec.console_log);
        let console = console.map_err(failed(&spec.console_log))?;
        let errors = console.try_clone().map_err(failed(&spec.console_log))?;
        let mut command = match owner {
            Some(owner) => jailed(spec, &base, owner),
            None => {
                let mut command = Command::new(&spec.program);
                command.current_dir(&root);
                command
            }
        };
        if owner.is_none() {
            command.arg("--id").arg(id);
        } else {
            command.arg("--id").arg(id).arg("--");
        }
        command.args(["--api-sock", API_SOCKET]).env_clear();
        // The guest's serial port is its standard output.
        command.stdin(Stdio::null()).stdout(console).stderr(errors);
        Ok(command)
    }

    /// Moves what Firecracker wrote to where it can't reach it any more.
    pub(super) fn take(&self, name: &str, to: &Path) -> Result<(), VmmError> {
        let taken = || {
            fs::rename(self.path(name), to)?;
            let found = fs::symlink_metadata(to)?;
            if !found.is_file() || found.nlink() != 1 {
                fs::remove_file(to)?;
                return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no file of its own"));
            }
            if geteuid().is_root() {
                chown(to, Some(0), Some(0))?;
            }
            fs::set_permissions(to, Permissions::from_mode(0o600))
        };
        taken().map_err(|source| VmmError::File { path: self.path(name), source })
    }
}

/// Removes the jail of a machine that has ended. Fine if there is none.
pub(in super::super) fn clear(machine_directory: &Path) -> io::Result<()> {
    match fs::read_link(machine_directory.join(LINK)) {
        Ok(root) => root.ancestors().nth(ROOT_DEPTH).map_or(Ok(()), remove_tree),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn jailed(spec: &MachineSpec, base: &Path, owner: u32) -> Command {
    let mut command = Command::new(spec.program.with_file_name(JAILER));
    command.arg("--exec-file").arg(&spec.program);
    command.args(["--uid", &owner.to_string(), "--gid", &owner.to_string()]);
    // Its cgroup is the one that it is born into; its network is the host's, where the TAP device is.
    command.arg("--chroot-base-dir").arg(base);
    command
}

fn owner(spec: &MachineSpec) -> Result<u32, VmmError> {
    let what = "run as root: the machine has no user id of its own";
    spec.monitor_id.filter(|id| *id != 0).ok_or(VmmError::Unsupported { monitor: Monitor::Firecracker, what })
}

/// Everything that the machine is made of: its name in the jail, where it is, whether it is written to.
fn contents(spec: &MachineSpec) -> Vec<(String, PathBuf, bool)> {
    let disks = spec.disks.iter().enumerate();
    let mut contents: Vec<_> =
        disks.map(|(index, each)| (disk(index), each.path.clone(), !each.read_only)).collect();
    match &spec.resume {
        Some(resume) => {
            contents.extend([STATE, MEMORY].map(|name| (name.to_owned(), resume.directory.join(name), false)))
        }
        None => contents.extend([
            (KERNEL.to_owned(), spec.kernel.clone(), false),
            (INITRD.to_owned(), spec.initrd.clone(), false),
        ]),
    }
    contents
}

/// Gives a file a further name. What is only read is copied when it is on another filesystem, and everybody may read
/// it: the directories that it lies in are closed to all but root.
fn lend(from: &Path, to: &Path, owner: Option<u32>) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices && owner.is_none() => {
            fs::copy(from, to)?;
        }
        linked => linked?,
    }
    if let Some(owner) = owner {
        return chown(to, Some(owner), Some(owner));
    }
    let mode = fs::metadata(to)?.mode() & 0o7777;
    if mode & 0o444 == 0o444 { Ok(()) } else { fs::set_permissions(to, Permissions::from_mode(mode | 0o444)) }
}

fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
