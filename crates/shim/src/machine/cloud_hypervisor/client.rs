//! A typed client of Cloud Hypervisor's API: a method for each request that is used. It refuses to know in which order
//! they make sense: Cloud Hypervisor refuses the others, and [`super`] knows.

use std::{path::Path, time::Instant};

use super::{
    super::{
        api::{Api, Request},
        http::Method::{Get, Put},
        vmm::VmmError,
    },
    types::{RestoreConfig, VmConfig, VmInfo, VmSnapshotConfig, VmmPing},
};

/// Cloud Hypervisor, as it listens at a socket. Every request has the same deadline.
#[derive(Debug)]
pub(super) struct Client<'a> {
    api: Api<'a>,
    deadline: Instant,
}

impl<'a> Client<'a> {
    pub(super) fn new(socket: &'a Path, deadline: Instant) -> Self {
        Self { api: Api { socket, prefix: "/api/v1", reason }, deadline }
    }

    /// Who it is.
    pub(super) fn ping(&self) -> Result<VmmPing, VmmError> {
        let request = Request { step: "say who it is", method: Get, target: "/vmm.ping" };
        self.api.ask(request, self.deadline)
    }

    /// How far its machine is.
    pub(super) fn info(&self) -> Result<VmInfo, VmmError> {
        let request = Request { step: "say how it is", method: Get, target: "/vm.info" };
        self.api.ask(request, self.deadline)
    }

    /// Takes the machine that is to be booted.
    pub(super) fn create(&self, body: &VmConfig) -> Result<(), VmmError> {
        let request = Request { step: "make the machine", method: Put, target: "/vm.create" };
        self.api.send(request, body, self.deadline)
    }

    /// Boots it.
    pub(super) fn boot(&self) -> Result<(), VmmError> {
        let request = Request { step: "boot the machine", method: Put, target: "/vm.boot" };
        self.api.order(request, self.deadline)
    }

    pub(super) fn pause(&self) -> Result<(), VmmError> {
        let request = Request { step: "pause the machine", method: Put, target: "/vm.pause" };
        self.api.order(request, self.deadline)
    }

    pub(super) fn resume(&self) -> Result<(), VmmError> {
        let request = Request { step: "let the machine go on", method: Put, target: "/vm.resume" };
        self.api.order(request, self.deadline)
    }

    pub(super) fn snapshot(&self, body: &VmSnapshotConfig) -> Result<(), VmmError> {
        let request = Request { step: "save the machine", method: Put, target: "/vm.snapshot" };
        self.api.send(request, body, self.deadline)
    }

    pub(super) fn restore(&self, body: &RestoreConfig) -> Result<(), VmmError> {
        let request = Request { step: "load the machine", method: Put, target: "/vm.restore" };
        self.api.send(request, body, self.deadline)
    }
}

/// Its refusals are a text, or a list of texts from the error to its cause.
fn reason(body: &[u8]) -> Option<String> {
    match serde_json::from_slice(body) {
        Ok(serde_json::Value::Array(chain)) => {
            let texts: Vec<_> = chain.iter().filter_map(serde_json::Value::as_str).collect();
            Some(texts.join(": "))
        }
        _ => Some(String::from_utf8_lossy(body).into_owned()),
    }
}
