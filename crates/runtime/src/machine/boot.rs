//! The files that a machine begins with: those of its image, or those that it was lent of a snapshot.
//! It refuses to mix them.

use std::path::{Path, PathBuf};

use hypercore_model::machine::MachineResume;

use super::{
    bundle::{MachineError, MachineRequest, Platform},
    disk, initramfs, root_image,
    snapshot::{self, Lent},
    vmlinux,
};

/// What a machine begins with.
pub(super) struct Boot {
    pub(super) kernel: PathBuf,
    pub(super) initrd: PathBuf,
    /// The disk that it reads.
    pub(super) image: PathBuf,
    /// The disk that it writes.
    pub(super) writable: PathBuf,
    /// Where it goes on from; `None` boots.
    pub(super) resume: Option<MachineResume>,
}

impl Boot {
    /// What the request says, made if it isn't there. What the machine wrote in an earlier run stays.
    pub(super) fn of(request: &MachineRequest<'_>, platform: &Platform) -> Result<Self, MachineError> {
        match request.resume {
            Some(lent) => Ok(Self::of_snapshot(lent)),
            None => Self::of_image(request, platform),
        }
    }

    fn of_snapshot(lent: &Lent) -> Self {
        let file = |name: &str| lent.directory.join(name);
        let resume =
            MachineResume { directory: lent.directory.clone(), is_mapped: lent.manifest.machine.is_mapped };
        Self {
            kernel: file("kernel"),
            initrd: file("initrd"),
            image: file("image.ext4"),
            writable: lent.writable.clone(),
            resume: Some(resume),
        }
    }

    fn of_image(request: &MachineRequest<'_>, platform: &Platform) -> Result<Self, MachineError> {
        // An earlier run may have gone on from a snapshot.
        snapshot::take_back(request.directory)?;
        let initrd = initramfs::build(&platform.kernel, &platform.agent, &platform.cache)?;
        let image = root_image::build(request.image_digest, request.layers, &platform.cache)?;
        let writable = request.directory.join("writable.ext4");
        disk::create(&writable, request.spec.io.disk_size_bytes, &platform.cache)?;
        let kernel = vmlinux::for_monitor(platform.monitor, &platform.kernel.image, &platform.cache)?;
        Ok(Self { kernel, initrd, image, writable, resume: None })
    }
}

/// Where the machine's monitor keeps a record of what it was made of.
pub(super) fn remember(
    machine: &hypercore_model::machine::MachineSpec,
    request: &MachineRequest<'_>,
    platform: &Platform,
) -> Result<(), MachineError> {
    let version = platform.version.to_string();
    let failed = |source| MachineError::File { path: Path::new(request.directory).to_owned(), source };
    let origin = snapshot::Origin::of(machine, version, *request.image_digest, request.image);
    origin.and_then(|origin| origin.write(request.directory)).map_err(failed)
}
