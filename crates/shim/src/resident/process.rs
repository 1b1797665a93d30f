//! One process inside the workload, the first or an executed one: from the engine's run that starts it until it has
//! ended and its output is read. It refuses to know where output goes: that is the loop's question to the [`Sink`].

use std::{io, time::Instant};

use hypercore_wire::{Credit, StreamId, message::Exit};
use nix::{libc::SIGKILL, unistd::Pid};

use super::{
    client::ClientId,
    detach::set_nonblocking,
    helper::{Ends, Helper, Started},
    input::Input,
    kernel,
    log_writer::Stream,
    output::Output,
};
use crate::terminal::TerminalSize;

/// Tells processes apart: the workload's first one, then executions by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ProcessId(pub(super) u32);

impl ProcessId {
    /// The workload's first process.
    pub(super) const FIRST: Self = Self(0);
}

/// Where output goes.
#[derive(Debug)]
pub(super) enum Sink {
    /// Into the workload's log.
    Log,
    /// To the client that asked for the execution, as far as its credit goes.
    Client { client: ClientId, stream: StreamId, credit: Credit },
    /// Nowhere: that client is gone. It is still read, so that the process isn't stopped by a full pipe.
    Nowhere,
}

/// How far the process is.
#[derive(Debug)]
pub(super) enum Phase {
    /// The engine is at work.
    Starting(Helper),
    /// It runs.
    Running(Pid),
    /// It ended so.
    Ended(Exit),
}

/// One process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) phase: Phase,
    pub(super) sink: Sink,
    pub(super) input: Option<Input>,
    pub(super) outputs: Vec<Output>,
    /// Standard input was asked for; with a terminal it comes with that.
    wants_input: bool,
    /// A client had it killed: then nobody wonders why it ended.
    pub(super) was_killed_by_request: bool,
}

impl Process {
    /// A process that the engine is about to start.
    pub(super) fn starting(helper: Helper, ends: Ends, sink: Sink, wants_input: bool) -> Self {
        let output = |(fd, stream)| Some(Output::new(fd?, stream, false));
        let outputs = [(ends.stdout, Stream::Stdout), (ends.stderr, Stream::Stderr)];
        Self {
            phase: Phase::Starting(helper),
            sink,
            input: ends.stdin.map(|fd| Input::new(fd, false)),
            outputs: outputs.into_iter().filter_map(output).collect(),
            wants_input,
            was_killed_by_request: false,
        }
    }

    /// The engine started it. A terminal that nobody is left to see is hung up at once.
    pub(super) fn started(&mut self, started: Started) -> io::Result<()> {
        self.phase = Phase::Running(started.pid);
        if let Some(master) = started.terminal.filter(|_| !matches!(self.sink, Sink::Nowhere)) {
            set_nonblocking(&master)?;
            if self.wants_input {
                self.input = Some(Input::new(master.try_clone()?, true));
            }
            self.outputs.push(Output::new(master, Stream::Stdout, true));
        }
        Ok(())
    }

    /// It ended, and was reaped. Its output may still have to be read.
    pub(super) fn ended(&mut self, exit: Exit, now: Instant) {
        self.phase = Phase::Ended(exit);
        self.input = None;
        for output in &mut self.outputs {
            output.process_ended(now);
        }
    }

    /// How it ended, once its output is read too.
    pub(super) const fn outcome(&self) -> Option<Exit> {
        match self.phase {
            Phase::Ended(exit) if self.outputs.is_empty() => Some(exit),
            _ => None,
        }
    }

    /// Whether input can be sent to it.
    pub(super) const fn takes_input(&self) -> bool {
        self.input.is_some()
    }

    /// Sends a signal, if it runs. SIGKILL is remembered while it starts.
    pub(super) fn kill(&mut self, signal: i32) -> io::Result<()> {
        self.was_killed_by_request |= signal == SIGKILL;
        match self.phase {
            Phase::Running(pid) => kernel::kill(pid, signal),
            Phase::Starting(_) | Phase::Ended(_) => Ok(()),
        }
    }

    /// Sets its terminal's size. `false` when it has none.
    pub(super) fn resize(&self, size: TerminalSize) -> io::Result<bool> {
        match self.outputs.iter().find(|output| output.is_terminal()) {
            Some(terminal) => size.apply(terminal).map(|()| true),
            None => Ok(false),
        }
    }

    /// Its client is gone. It goes on, as with docker; but a terminal nobody can ever see again is hung up.
    pub(super) fn abandon(&mut self) {
        self.sink = Sink::Nowhere;
        self.input = None;
        self.wants_input = false;
        self.outputs.retain(|output| !output.is_terminal());
    }

    /// Whether its output may be delivered: whoever asked for it learns first that it runs.
    pub(super) const fn may_speak(&self) -> bool {
        !matches!((&self.phase, &self.sink), (Phase::Starting(_), Sink::Client { .. }))
    }

    /// Whether it was executed for this stream of this client.
    pub(super) fn is_for(&self, asker: ClientId, asked: StreamId) -> bool {
        matches!(self.sink, Sink::Client { client, stream, .. } if client == asker && stream == asked)
    }
}
