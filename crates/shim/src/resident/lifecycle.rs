//! What happens to processes: they start, they end, and the shim with the first of them. It refuses to lose an end:
//! one that is seen before its beginning is kept until that is reported.

use std::time::{Instant, SystemTime};

use hypercore_model::Timestamp;
use hypercore_wire::{
    ErrorCode, Flags,
    message::{ExecExited, ExecStarted, Exit, Exited, Fault, State},
};
use nix::{libc::SIGKILL, unistd::Pid};

use super::{
    FAREWELL_TIME_MAX, LAUNCHER, Resident, Standing,
    client::ClientId,
    helper::Started,
    kernel,
    process::{Phase, Process, ProcessId, Sink},
    requests::WAITING_MAX,
};
use crate::report::{Failure, FailureCode};

impl Resident {
    /// Takes in what the engine has to say about a start.
    pub(super) fn advance_start(&mut self, id: ProcessId) {
        let Some(Process { phase: Phase::Starting(helper), .. }) = self.processes.get_mut(&id) else {
            return;
        };
        match helper.advance() {
            None => {}
            Some(Ok(started)) => self.start(id, started),
            Some(Err(failure)) => self.fail_start(id, &failure),
        }
    }

    /// Gives up on engines that take too long.
    pub(super) fn abort_late_starts(&mut self) {
        let now = Instant::now();
        let late = self.processes.iter().filter_map(|(id, process)| match &process.phase {
            Phase::Starting(helper) if helper.deadline() <= now => Some((*id, helper.abort())),
            _ => None,
        });
        let late: Vec<(ProcessId, Failure)> = late.collect();
        for (id, failure) in late {
            self.fail_start(id, &failure);
        }
    }

    fn start(&mut self, id: ProcessId, started: Started) {
        let pid = started.pid;
        let Some(process) = self.processes.get_mut(&id) else { return };
        if let Err(error) = process.started(started) {
            // It runs, but without what was asked for: it must not go on so.
            let _ = kernel::kill(pid, SIGKILL);
            let message = format!("its terminal can't be used: {error}");
            return self.fail_start(id, &Failure { code: FailureCode::Engine, message });
        }
        if let Sink::Client { client, stream, .. } = process.sink {
            let takes_input = process.takes_input();
            if let Some(client) = self.clients.get_mut(&client) {
                client.send(stream, Flags::NONE, ExecStarted { pid: pid.as_raw() });
                if takes_input {
                    client.open_input(stream);
                }
            }
        }
        if id == ProcessId::FIRST {
            self.standing = Standing::Running(self.state(pid));
            self.answer_describing();
        }
        self.catch_up(id, pid);
    }

    /// Does what was due before the process was known: it may have ended already, or be unwanted by now.
    fn catch_up(&mut self, id: ProcessId, pid: Pid) {
        if let Some(index) = self.unclaimed.iter().position(|(reaped, _)| *reaped == pid) {
            let (_, exit) = self.unclaimed.swap_remove(index);
            self.end(id, exit);
        } else if let Some(process) =
            self.processes.get_mut(&id).filter(|process| process.was_killed_by_request)
        {
            // It may have ended just now.
            let _ = process.kill(SIGKILL);
        }
    }

    fn fail_start(&mut self, id: ProcessId, failure: &Failure) {
        let Some(process) = self.processes.remove(&id) else { return };
        let fault = Fault::new(error_code(failure.code), failure.message.clone());
        if let Sink::Client { client, stream, .. } = process.sink
            && let Some(client) = self.clients.get_mut(&client)
        {
            client.send(stream, Flags::END_STREAM, fault.clone());
        }
        if id == ProcessId::FIRST {
            self.standing = Standing::Failed(fault);
            self.answer_describing();
            self.say_farewell();
        }
    }

    /// Tells those who asked what the shim holds.
    fn answer_describing(&mut self) {
        for (client, stream) in std::mem::take(&mut self.describing) {
            self.describe(client, stream);
        }
    }

    /// Answers what the shim holds, or remembers to.
    pub(super) fn describe(&mut self, client: ClientId, stream: hypercore_wire::StreamId) {
        let Some(peer) = self.clients.get_mut(&client) else { return };
        match &self.standing {
            Standing::Starting if self.describing.len() >= WAITING_MAX => {
                peer.refuse(stream, ErrorCode::TOO_MANY, "too many wait for the start already");
            }
            Standing::Starting => self.describing.push((client, stream)),
            Standing::Failed(fault) => peer.send(stream, Flags::END_STREAM, fault.clone()),
            Standing::Running(state) | Standing::Ended(state, _) => {
                peer.send(stream, Flags::END_STREAM, state.clone());
            }
        }
        self.is_launch_told |= client == LAUNCHER && !matches!(self.standing, Standing::Starting);
    }

    fn state(&self, pid: Pid) -> State {
        State {
            id: self.arguments.id.to_string(),
            attempt: self.arguments.attempt.number(),
            pid: pid.as_raw(),
            started_at_ms: now_ms(),
            tty: self.arguments.tty,
            stdin_open: self.arguments.stdin_open,
        }
    }

    /// Reaps every child that has ended: processes, engines, and whatever was left to the shim as their ancestor.
    pub(super) fn reap(&mut self) {
        while let Some((pid, exit)) = kernel::reap() {
            let ended = self.processes.iter().find_map(|(id, process)| match process.phase {
                Phase::Running(running) if running == pid => Some(*id),
                _ => None,
            });
            match ended {
                Some(id) => self.end(id, exit),
                None => self.unclaimed.push((pid, exit)),
            }
        }
        let is_starting = |process: &Process| matches!(process.phase, Phase::Starting(_));
        if !self.processes.values().any(is_starting) {
            self.unclaimed.clear();
        }
    }

    fn end(&mut self, id: ProcessId, exit: Exit) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        let exit = self.oom.explain(exit, process.was_killed_by_request);
        process.ended(exit, Instant::now());
    }

    /// Tells of the processes that have ended and whose output is read.
    pub(super) fn finish_ended(&mut self) {
        let finished = self.processes.iter().filter_map(|(id, process)| Some((*id, process.outcome()?)));
        let finished: Vec<(ProcessId, Exit)> = finished.collect();
        for (id, exit) in finished {
            let Some(process) = self.processes.remove(&id) else { continue };
            if let Sink::Client { client, stream, .. } = process.sink
                && let Some(client) = self.clients.get_mut(&client)
            {
                client.inputs.remove(&stream);
                client.send(stream, Flags::END_STREAM, ExecExited { exit });
            }
            if id == ProcessId::FIRST {
                self.finish_workload(exit);
            }
        }
    }

    fn finish_workload(&mut self, exit: Exit) {
        let Standing::Running(state) = &self.standing else { return };
        let (state, finished_at_ms) = (state.clone(), now_ms());
        let exited = Exited { exit, started_at_ms: state.started_at_ms, finished_at_ms };
        if let Some(record) = self.exit_record.take() {
            // Without a record, those who are connected are still told. Nobody else can be.
            let _ = record.write(&exited, self.log.lost_at_end());
        }
        self.standing = Standing::Ended(state, exited);
        for (client, stream) in std::mem::take(&mut self.waiting) {
            if let Some(client) = self.clients.get_mut(&client) {
                client.send(stream, Flags::END_STREAM, exited);
            }
        }
        self.say_farewell();
    }

    fn say_farewell(&mut self) {
        self.listener = None;
        self.farewell_at = Some(Instant::now() + FAREWELL_TIME_MAX);
    }

    /// Whether the shim may end: the workload has, or never began, and everybody has been told.
    pub(super) fn is_done(&self) -> bool {
        let Some(farewell_at) = self.farewell_at else { return false };
        let is_all_told = self.processes.is_empty() && !self.clients.values().any(super::Client::is_behind);
        // Who launched it may not have asked yet what came of it.
        let is_awaited = !self.is_launch_told && self.clients.contains_key(&LAUNCHER);
        (is_all_told && !is_awaited) || farewell_at <= Instant::now()
    }
}

fn error_code(code: FailureCode) -> ErrorCode {
    match code {
        FailureCode::CommandNotFound => ErrorCode::COMMAND_NOT_FOUND,
        FailureCode::NotExecutable => ErrorCode::NOT_EXECUTABLE,
        FailureCode::NoSuchUser => ErrorCode::NO_SUCH_USER,
        FailureCode::Frozen => ErrorCode::FROZEN,
        FailureCode::NotRunning => ErrorCode::NOT_RUNNING,
        FailureCode::Engine => ErrorCode::ENGINE,
    }
}

fn now_ms() -> u64 {
    Timestamp::from_system_time(SystemTime::now()).unix_ms()
}
