//! What a machine gets mounted besides its root: volumes as disks, directories of the host through a file server of
//! theirs, memory. It refuses to mount anything itself: the guest does.

use std::{
    fs,
    path::{Path, PathBuf},
};

use hypercore_model::{
    Mount, MountSource, VolumeName,
    machine::{MachineDisk, MachineMount, MachineShare, Monitor},
};

use super::bundle::{MachineError, MachineRequest};
use crate::{
    bundle::{self, BundleError},
    volume::ForMachine,
};

/// Where distributions put the file server of host directories, newest first.
const FILE_SERVERS: [&str; 3] = ["/usr/libexec/virtiofsd", "/usr/lib/virtiofsd", "/usr/lib/qemu/virtiofsd"];

/// The program that gives directories of the host to machines, if it is installed.
#[must_use]
pub fn find_file_server() -> Option<PathBuf> {
    FILE_SERVERS.iter().map(PathBuf::from).find(|path| path.is_file())
}

/// What all mounts of a workload need of its machine.
#[derive(Debug, Default)]
pub(super) struct Storage {
    /// Disks besides the machine's own two.
    pub(super) disks: Vec<MachineDisk>,
    /// Directories of the host.
    pub(super) shares: Vec<MachineShare>,
    /// What the guest mounts, directories before what lies in them.
    pub(super) mounts: Vec<MachineMount>,
}

impl Storage {
    /// Takes what the spec asks for. A volume that isn't there is made; one that another machine has is refused.
    pub(super) fn of(request: &MachineRequest<'_>, monitor: Monitor) -> Result<Self, MachineError> {
        let mut wanted: Vec<&Mount> = request.spec.mounts.iter().collect();
        wanted.sort_by_key(|mount| Path::new(&mount.target).components().count());
        let mut storage = Self::default();
        for mount in wanted {
            storage.add(mount, request, monitor)?;
        }
        Ok(storage)
    }

    fn add(
        &mut self,
        mount: &Mount,
        request: &MachineRequest<'_>,
        monitor: Monitor,
    ) -> Result<(), MachineError> {
        let (kind, source) = match &mount.source {
            MountSource::Tmpfs { .. } => ("tmpfs", String::new()),
            MountSource::Bind(path) => {
                let (source, is_directory) =
                    bundle::host_path(path, &mount.target, request.reserved).map_err(BundleError::Mounted)?;
                if !is_directory {
                    return Err(MachineError::Unsupported("a single file of the host"));
                }
                ("virtiofs", self.share(source, mount.read_only, monitor)?)
            }
            MountSource::Volume(name) => {
                match request
                    .volumes
                    .take_for_machine(name, mount.read_only, || Content::of(request, &mount.target))?
                {
                    ForMachine::Disk(path) => ("ext4", self.disk(path, name, mount.read_only)?),
                    ForMachine::Directory(path) => ("virtiofs", self.share(path, mount.read_only, monitor)?),
                }
            }
        };
        let size_bytes = match mount.source {
            MountSource::Tmpfs { size_bytes } => size_bytes.unwrap_or(0),
            MountSource::Bind(_) | MountSource::Volume(_) => 0,
        };
        self.mounts.push(MachineMount {
            source,
            kind: kind.to_owned(),
            target: mount.target.clone(),
            read_only: mount.read_only,
            size_bytes,
        });
        Ok(())
    }

    /// The serial of a volume's disk. One that is mounted at two places is one disk.
    fn disk(&mut self, path: PathBuf, name: &VolumeName, read_only: bool) -> Result<String, MachineError> {
        if let Some(disk) = self.disks.iter().find(|disk| disk.path == path) {
            // A kernel has one filesystem once: to write it or to read it.
            return if disk.read_only == read_only {
                Ok(disk.serial.clone())
            } else {
                Err(MachineError::TwoWays(name.clone()))
            };
        }
        let serial = format!("volume{}", self.disks.len());
        self.disks.push(MachineDisk { serial: serial.clone(), path, read_only });
        Ok(serial)
    }

    /// The tag of a directory.
    fn share(
        &mut self,
        directory: PathBuf,
        read_only: bool,
        monitor: Monitor,
    ) -> Result<String, MachineError> {
        // It has no device for them.
        if monitor == Monitor::Firecracker {
            return Err(MachineError::NoSharing(monitor));
        }
        let program = find_file_server().ok_or(MachineError::NoFileServer)?;
        let tag = format!("share{}", self.shares.len());
        self.shares.push(MachineShare { tag: tag.clone(), directory, read_only, program });
        Ok(tag)
    }
}

/// A directory of the image, mounted for as long as this is held.
struct Content {
    directory: PathBuf,
    scratch: PathBuf,
}

impl Content {
    /// What the image has at `target`; `None` if it has no directory there.
    fn of(request: &MachineRequest<'_>, target: &str) -> Result<Option<Self>, MachineError> {
        let scratch = request.directory.join("content");
        fs::create_dir_all(&scratch)
            .map_err(|source| MachineError::File { path: scratch.clone(), source })?;
        let mut content = Self { directory: PathBuf::new(), scratch };
        let root = bundle::mount_rootfs(request.layers, &content.scratch)?;
        match bundle::directory_in(&root, target)? {
            Some(directory) => content.directory = directory,
            None => return Ok(None),
        }
        Ok(Some(content))
    }
}

impl AsRef<Path> for Content {
    fn as_ref(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        // What can't be unmounted stays with the workload's directory, whose removal says why.
        if bundle::discard(&self.scratch).is_ok() {
            let _ = fs::remove_dir_all(&self.scratch);
        }
    }
}
