//! QEMU as the machine's monitor: its command line. The q35 board, because the microvm board hangs at its clock's
//! calibration without KVM; with KVM too, so that what is tested in software is what runs. The guest agent is reached
//! over a virtio-serial port: vhost-user-vsock would keep a machine from being snapshotted.

mod migration;
mod murmur;
mod qmp;
mod room;
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
    time::{Duration, Instant},
};

use hypercore_model::machine::{Accelerator, MachineSpec};

use super::vmm::{KERNEL_ARGUMENTS, Place, Saved, Vmm, VmmError};

/// The name of the port, which the guest agent looks for.
const PORT_NAME: &str = "hypercore.guest";

/// How long QEMU may take for what takes it no time. Before it stops a machine it writes what is on its way to disks.
const ORDER_TIME_MAX: Duration = Duration::from_secs(30);
/// How long saving may take. All of a large memory may have to go to a slow disk.
const SAVE_TIME_MAX: Duration = Duration::from_secs(300);

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
        let mut command = command(spec, place, tap);
        if let Some(resume) = &spec.resume {
            command.args(["-incoming", "defer"]);
            if resume.is_mapped {
                migration::deny_holes(&mut command)?;
            }
        }
        Ok(command)
    }

    /// It boots by itself.
    fn begin(
        &self,
        spec: &MachineSpec,
        place: &Place,
        process: &mut Child,
        deadline: Instant,
    ) -> Result<(), VmmError> {
        room::watch(place);
        let resume = spec.resume.as_ref();
        resume.map_or(Ok(()), |resume| migration::resume(resume, place, process, deadline))
    }

    fn dial(&self, place: &Place) -> io::Result<UnixStream> {
        UnixStream::connect(place.guest())
    }

    fn pause(&self, place: &Place) -> Result<(), VmmError> {
        migration::pause(place, Instant::now() + ORDER_TIME_MAX)
    }

    fn go_on(&self, place: &Place) -> Result<(), VmmError> {
        migration::go_on(place, Instant::now() + ORDER_TIME_MAX)
    }

    fn save(&self, place: &Place, directory: &Path) -> Result<Saved, VmmError> {
        migration::save(place, directory, Instant::now() + SAVE_TIME_MAX)
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
            &format!("q35,memory-backend={}", migration::MEMORY),
            "-cpu",
            processor,
        ])
        .args(["-accel", accelerator, "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny"])
        .args(["-smp", &spec.cpus.to_string(), "-m", &format!("{}M", spec.memory_mib)])
        .arg("-object")
        .arg(memory(spec))
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

fn memory(spec: &MachineSpec) -> OsString {
    match migration::memory_option(spec.memory_mib, spec.resume.as_ref()) {
        (option, None) => option.into(),
        (option, Some(path)) => joined(&option, &path, ""),
    }
}

/// An option with a path in it. A comma in a path is doubled, as QEMU's option syntax wants it.
fn joined(before: &str, path: &Path, after: &str) -> OsString {
    let escaped = path.to_string_lossy().replace(',', ",,");
    OsString::from(format!("{before}{escaped}{after}"))
}

#[cfg(test)]
mod tests {
    use hypercore_model::machine::Monitor;

    use super::*;

    #[test]
    fn the_processor_is_the_hosts_where_kvm_runs_it() {
        let scratch = tempfile::tempdir().unwrap();
        let spec = super::super::sample::machine(Monitor::Qemu, scratch.path());
        for (accelerator, wanted) in
            [(Accelerator::Kvm, ["kvm", "host"]), (Accelerator::Tcg, ["tcg,tb-size=64", "max"])]
        {
            let spec = MachineSpec { accelerator, ..spec.clone() };
            let command = command(&spec, &Place::within(scratch.path().to_owned()), None);
            let arguments: Vec<_> = command.get_args().collect();
            let after =
                |option: &str| arguments.iter().position(|name| *name == option).map(|at| arguments[at + 1]);
            assert_eq!(["-accel", "-cpu"].map(after), wanted.map(|value| Some(std::ffi::OsStr::new(value))));
        }
    }

    #[test]
    fn a_comma_in_a_path_is_no_option() {
        assert_eq!(joined("file=", Path::new("/a,b"), ",readonly=on"), "file=/a,,b,readonly=on");
    }
}
