//! QEMU as the machine's monitor: its command line. The q35 board, because the microvm board hangs at its clock's
//! calibration without KVM. The guest agent is reached over a virtio-serial port: vhost-user-vsock would keep a machine
//! from being snapshotted.

mod storage;

use std::{
    ffi::OsString,
    io,
    os::{
        fd::{AsRawFd, BorrowedFd},
        unix::net::UnixStream,
    },
    path::Path,
    process::{Child, Command, Stdio},
    time::Instant,
};

use hypercore_model::machine::{Accelerator, MachineSpec, Monitor};

use super::vmm::{Place, Saved, Vmm, VmmError};

/// The kernel's command line: a console to log to, and an end instead of a wait when it panics. Nothing of the workload.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet panic=-1 reboot=t random.trust_cpu=on";

/// The name of the port, which the guest agent looks for.
const PORT_NAME: &str = "hypercore.guest";

/// QEMU.
#[derive(Debug)]
pub(super) struct Qemu;

impl Vmm for Qemu {
    fn command(
        &self,
        spec: &MachineSpec,
        place: &Place,
        tap: Option<BorrowedFd<'_>>,
    ) -> Result<Command, VmmError> {
        if spec.resume.is_some() {
            return Err(VmmError::Unsupported { monitor: Monitor::Qemu, what: "resume a machine" });
        }
        Ok(command(spec, place, tap))
    }

    /// It boots by itself.
    fn begin(
        &self,
        _spec: &MachineSpec,
        _place: &Place,
        _process: &mut Child,
        _deadline: Instant,
    ) -> Result<(), VmmError> {
        Ok(())
    }

    fn dial(&self, place: &Place) -> io::Result<UnixStream> {
        UnixStream::connect(place.guest())
    }

    fn pause(&self, _place: &Place) -> Result<(), VmmError> {
        Err(VmmError::Unsupported { monitor: Monitor::Qemu, what: "be paused" })
    }

    fn go_on(&self, _place: &Place) -> Result<(), VmmError> {
        Err(VmmError::Unsupported { monitor: Monitor::Qemu, what: "be paused" })
    }

    fn save(&self, _place: &Place, _directory: &Path) -> Result<Saved, VmmError> {
        Err(VmmError::Unsupported { monitor: Monitor::Qemu, what: "save a machine" })
    }
}

fn command(spec: &MachineSpec, place: &Place, tap: Option<BorrowedFd<'_>>) -> Command {
    let mut command = Command::new(&spec.program);
    command.env_clear().current_dir("/").stdin(Stdio::null()).stdout(Stdio::null());
    let (accelerator, processor) = match spec.accelerator {
        Accelerator::Kvm => ("kvm", "host"),
        // A small translation cache: it would take a fifth of the host's memory by default.
        Accelerator::Tcg => ("tcg,tb-size=64", "max"),
    };
    command
        .args([
            "-nodefaults",
            "-no-user-config",
            "-nographic",
            "-no-reboot",
            "-machine",
            "q35",
            "-cpu",
            processor,
        ])
        .args(["-accel", accelerator, "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny"])
        .args(["-smp", &spec.cpus.to_string(), "-m", &format!("{}M", spec.memory_mib)])
        .arg("-kernel")
        .arg(&spec.kernel)
        .arg("-initrd")
        .arg(&spec.initrd)
        .args(["-append", KERNEL_ARGUMENTS])
        .arg("-serial")
        .arg(joined("file:", &spec.console_log, ""))
        .args(["-device", "virtio-serial-pci"])
        .arg("-chardev")
        .arg(joined("socket,id=guest,path=", &place.guest(), ",server=on,wait=off"))
        .args(["-device", &format!("virtserialport,chardev=guest,name={PORT_NAME}")])
        .arg("-qmp")
        .arg(joined("unix:", &place.control(), ",server=on,wait=off"))
        .args(["-device", "virtio-rng-pci"])
        // Gives back what the guest doesn't use.
        .args(["-device", "virtio-balloon-pci,free-page-reporting=on"]);
    storage::add(&mut command, spec, place);
    if let (Some(tap), Some(network)) = (tap, &spec.network) {
        let (number, mac) = (tap.as_raw_fd(), &network.hardware_address);
        command.args(["-netdev", &format!("tap,id=net,fd={number}")]);
        // Without its boot ROM, which would look for a server to boot from.
        command.args(["-device", &format!("virtio-net-pci,netdev=net,romfile=,mac={mac}")]);
    }
    command
}

/// An option with a path in it. A comma in a path is doubled, as QEMU's option syntax wants it.
fn joined(before: &str, path: &Path, after: &str) -> OsString {
    let escaped = path.to_string_lossy().replace(',', ",,");
    OsString::from(format!("{before}{escaped}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_in_a_path_is_no_option() {
        assert_eq!(joined("file=", Path::new("/a,b"), ",readonly=on"), "file=/a,,b,readonly=on");
    }
}
