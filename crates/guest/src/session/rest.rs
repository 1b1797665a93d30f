//! A conversation around a snapshot: how the machine comes to rest, how it goes on as itself, and how as another one.
//! It refuses to let a workload run before its machine is who it shall be.

use std::{collections::BTreeMap, mem};

use hypercore_wire::{
    ErrorCode, Message, StreamId,
    message::{Done, Hello},
};

use super::{Machine, Session, lock};
use crate::{boot, cgroup, execution::Execution, link::Sender};

/// What a conversation at rest led, until it goes on or another one takes over.
#[derive(Debug)]
pub(super) struct Rest {
    sender: Sender,
    executions: BTreeMap<StreamId, Execution>,
}

impl Machine {
    /// The conversation at rest, if there is one, is over: its host was that of another machine, or has lost it. Its first
    /// process waits for who adopts it, and nothing else goes on.
    pub(super) fn take_over(&self) {
        let Some(Rest { sender, executions }) = lock(&self.rest).take() else { return };
        // What they were sending goes nowhere now, or to who adopts them.
        sender.leave();
        for (_, execution) in executions {
            if execution.is_first {
                *lock(&self.kept) = Some(execution);
            } else {
                execution.end();
            }
        }
    }
}

impl Session<'_> {
    /// Brings the machine to rest: disks written, workload stopped, and nothing more sent than that it is.
    pub(super) fn quiesce(&mut self, stream: StreamId) {
        // Most of what is to be written, while everything still runs.
        nix::unistd::sync();
        if let Err(error) = cgroup::freeze() {
            self.go_on();
            let message = format!("the workload can't be stopped: {error}");
            return self.sender.refuse(stream, ErrorCode::ENGINE, message);
        }
        nix::unistd::sync();
        self.sender.hold();
        // From here on nobody is told that it ended.
        if !self.executions.values().any(|execution| execution.is_first && !execution.is_over()) {
            self.go_on();
            return self.sender.refuse(stream, ErrorCode::NOT_RUNNING, "the workload has ended");
        }
        self.is_at_rest = true;
        let executions = mem::take(&mut self.executions);
        *lock(&self.machine.rest) = Some(Rest { sender: self.sender.clone(), executions });
        self.sender.send_last(stream, Done {});
    }

    /// Goes on as if nothing had been. Over another conversation than the one at rest, it is the workload that goes on.
    pub(super) fn thaw(&mut self) {
        if mem::take(&mut self.is_at_rest)
            && let Some(rest) = lock(&self.machine.rest).take()
        {
            self.executions = rest.executions;
        }
        self.go_on();
    }

    fn go_on(&self) {
        if let Err(error) = cgroup::thaw() {
            boot::complain(&format!("the workload can't go on: {error}"));
        }
        self.sender.release();
    }

    /// At rest, the host says that the machine goes on; a greeting is another host's.
    pub(super) fn take_at_rest(&mut self, message: Message) -> Result<Option<Hello>, String> {
        match message {
            Message::Thaw(_) => self.thaw(),
            Message::Hello(hello) => return Ok(Some(hello)),
            other => return Err(format!("messages of type {} are not for a guest at rest", other.number())),
        }
        Ok(None)
    }

    /// Makes `stream` that of the first process. The error is a breach of the protocol.
    pub(super) fn adopt(&mut self, stream: StreamId) -> Result<(), String> {
        if self.executions.contains_key(&stream) || self.copies.contains_key(&stream) {
            return Err("the stream is in use".to_owned());
        }
        self.machine.take_over();
        match lock(&self.machine.kept).take() {
            Some(execution) => {
                execution.adopt(&self.sender, stream);
                self.executions.insert(stream, execution);
            }
            None => {
                let message = "no process waits for a new host";
                self.sender.refuse(stream, ErrorCode::NOT_RUNNING, message);
            }
        }
        Ok(())
    }
}
