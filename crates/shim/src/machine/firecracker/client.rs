//! A typed client of Firecracker's API: a method for each request that is used. It refuses to know in which order they
//! make sense: Firecracker refuses the others, and [`super`] knows.

use std::{path::Path, time::Instant};

use super::{
    super::{
        api::{Api, Request},
        http::Method::{Get, Patch, Put},
        vmm::VmmError,
    },
    types::{
        ActionType, Balloon, BootSource, Drive, EntropyDevice, Fault, InstanceAction, InstanceInfo,
        MachineConfiguration, NetworkInterface, SnapshotCreate, SnapshotLoad, Vm, VmState, Vsock,
    },
};

/// Firecracker, as it listens at a socket. Every request has the same deadline.
#[derive(Debug)]
pub(super) struct Client<'a> {
    api: Api<'a>,
    deadline: Instant,
}

impl<'a> Client<'a> {
    pub(super) fn new(socket: &'a Path, deadline: Instant) -> Self {
        Self { api: Api { socket, prefix: "", reason }, deadline }
    }

    /// Who it is and how far its machine is.
    pub(super) fn describe(&self) -> Result<InstanceInfo, VmmError> {
        let request = Request { step: "say how it is", method: Get, target: "/" };
        self.api.ask(request, self.deadline)
    }

    pub(super) fn put_machine_configuration(&self, body: &MachineConfiguration) -> Result<(), VmmError> {
        let request = Request { step: "take the machine's size", method: Put, target: "/machine-config" };
        self.api.send(request, body, self.deadline)
    }

    pub(super) fn put_boot_source(&self, body: &BootSource<'_>) -> Result<(), VmmError> {
        let request = Request { step: "take the kernel", method: Put, target: "/boot-source" };
        self.api.send(request, body, self.deadline)
    }

    pub(super) fn put_drive(&self, body: &Drive<'_>) -> Result<(), VmmError> {
        let target = format!("/drives/{}", body.drive_id);
        let request = Request { step: "take a disk", method: Put, target: &target };
        self.api.send(request, body, self.deadline)
    }

    pub(super) fn put_network_interface(&self, body: &NetworkInterface<'_>) -> Result<(), VmmError> {
        let target = format!("/network-interfaces/{}", body.iface_id);
        let request = Request { step: "take the network", method: Put, target: &target };
        self.api.send(request, body, self.deadline)
    }

    pub(super) fn put_vsock(&self, body: &Vsock<'_>) -> Result<(), VmmError> {
        let request = Request { step: "take the guest's socket", method: Put, target: "/vsock" };
        self.api.send(request, body, self.deadline)
    }

    pub(super) fn put_entropy(&self) -> Result<(), VmmError> {
        let request = Request { step: "give randomness", method: Put, target: "/entropy" };
        self.api.send(request, &EntropyDevice {}, self.deadline)
    }

    pub(super) fn put_balloon(&self, body: &Balloon) -> Result<(), VmmError> {
        let request = Request { step: "take memory back", method: Put, target: "/balloon" };
        self.api.send(request, body, self.deadline)
    }

    /// Boots what was configured.
    pub(super) fn start(&self) -> Result<(), VmmError> {
        let request = Request { step: "boot the machine", method: Put, target: "/actions" };
        self.api.send(request, &InstanceAction { action_type: ActionType::InstanceStart }, self.deadline)
    }

    pub(super) fn pause(&self) -> Result<(), VmmError> {
        let request = Request { step: "pause the machine", method: Patch, target: "/vm" };
        self.api.send(request, &Vm { state: VmState::Paused }, self.deadline)
    }

    pub(super) fn resume(&self) -> Result<(), VmmError> {
        let request = Request { step: "let the machine go on", method: Patch, target: "/vm" };
        self.api.send(request, &Vm { state: VmState::Resumed }, self.deadline)
    }

    pub(super) fn create_snapshot(&self, body: &SnapshotCreate<'_>) -> Result<(), VmmError> {
        let request = Request { step: "save the machine", method: Put, target: "/snapshot/create" };
        self.api.send(request, body, self.deadline)
    }

    pub(super) fn load_snapshot(&self, body: &SnapshotLoad<'_>) -> Result<(), VmmError> {
        let request = Request { step: "load the machine", method: Put, target: "/snapshot/load" };
        self.api.send(request, body, self.deadline)
    }
}

fn reason(body: &[u8]) -> Option<String> {
    serde_json::from_slice::<Fault>(body).ok().map(|fault| fault.fault_message)
}
