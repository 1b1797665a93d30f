//! QEMU's options for a machine's disks and for the directories of the host that it sees. It refuses to open either:
//! QEMU does, and locks the disks in its own way besides.

use std::process::Command;

use hypercore_model::{IoLimits, machine::MachineSpec};

use super::{joined, room};
use crate::machine::{shares, vmm::Place};

/// What happens to a write that the host has no room for: the machine stands still, and nothing in it is told that its
/// disk is broken. All other failures are the guest's to know.
const ON_ERROR: &str = ",werror=enospc,rerror=report";

/// Adds all of them.
pub(super) fn add(command: &mut Command, spec: &MachineSpec, place: &Place) {
    command.arg("-qmp").arg(joined("unix:", &room::socket(place), ",server=on,wait=off"));
    let rates = rates(&spec.io);
    for (index, disk) in spec.disks.iter().enumerate() {
        let access = if disk.read_only { ",readonly=on" } else { ",discard=unmap" };
        let drive = format!("if=none,id=disk{index},format=raw{access}{ON_ERROR}{rates},file=");
        command.arg("-drive").arg(joined(&drive, &disk.path, ""));
        command.args(["-device", &format!("virtio-blk-pci,drive=disk{index},serial={}", disk.serial)]);
    }
    for share in &spec.shares {
        let tag = &share.tag;
        let socket = joined(&format!("socket,id={tag},path="), &shares::socket(place.directory(), tag), "");
        command.arg("-chardev").arg(socket);
        command.args(["-device", &format!("vhost-user-fs-pci,chardev={tag},tag={tag}")]);
    }
}

/// The limits of each drive. In one group they are those of all drives together.
fn rates(io: &IoLimits) -> String {
    let mut rates = String::new();
    for (option, limit) in [("bps-total", io.disk_bytes_per_s), ("iops-total", io.disk_ops_per_s)] {
        if let Some(limit) = limit {
            rates += &format!(",throttling.{option}={limit}");
        }
    }
    if rates.is_empty() { rates } else { format!("{rates},throttling.group=disks") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_those_of_all_drives_together() {
        assert_eq!(rates(&IoLimits::default()), "");
        let io = IoLimits { disk_bytes_per_s: Some(1 << 20), ..IoLimits::default() };
        assert_eq!(rates(&io), ",throttling.bps-total=1048576,throttling.group=disks");
        let io = IoLimits { disk_ops_per_s: Some(10), ..io };
        assert_eq!(
            rates(&io),
            ",throttling.bps-total=1048576,throttling.iops-total=10,throttling.group=disks"
        );
    }
}
