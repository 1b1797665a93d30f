//! A conversation around a snapshot: how the machine comes to rest, how it goes on as itself, and how as another one.
//! It refuses to let a workload run before its machine is who it shall be.

use hypercore_wire::{
    ErrorCode, Message, StreamId,
    message::{Done, Hello},
};

use super::{Session, lock};
use crate::{boot, cgroup};

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
        self.sender.send_last(stream, Done {});
    }

    /// Goes on as if nothing had been.
    pub(super) fn thaw(&mut self) {
        if self.is_at_rest {
            self.is_at_rest = false;
            self.go_on();
        }
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

    /// The host is that of another machine. Its first process is this machine's too, and nothing else is.
    pub(super) fn leave(&mut self) {
        for (_, execution) in std::mem::take(&mut self.executions) {
            if execution.is_first {
                *lock(&self.machine.kept) = Some(execution);
            } else {
                execution.end();
            }
        }
        for copying in self.copies.values_mut() {
            copying.break_off();
        }
    }

    /// Makes `stream` that of the first process. The error is a breach of the protocol.
    pub(super) fn adopt(&mut self, stream: StreamId) -> Result<(), String> {
        if self.executions.contains_key(&stream) || self.copies.contains_key(&stream) {
            return Err("the stream is in use".to_owned());
        }
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
