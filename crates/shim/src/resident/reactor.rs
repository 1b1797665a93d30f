//! The loop: work out what to poll for, poll, let what is ready happen, settle. It refuses to remember interests:
//! a part that is not ready to do anything is not polled for, so a hung-up descriptor can't make the loop spin.

use std::{os::fd::AsFd, time::Instant};

use hypercore_wire::{
    ErrorCode, Flags,
    message::{Stderr, Stdout},
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{
    Resident,
    client::{Client, ClientId},
    log_writer::Stream,
    output::{Outcome, Output},
    process::{Phase, Process, ProcessId, Sink},
};

/// Most connections at once: room for every execution to have one, and for those who control the workload.
const CLIENTS_MAX: usize = 256;
/// Bytes read from a process's output at once.
const READ_LEN_MAX: usize = 16 * 1024;

/// Something that can become ready.
#[derive(Debug, Clone, Copy)]
enum Token {
    Signals,
    Listener,
    Client(ClientId),
    Helper(ProcessId),
    Input(ProcessId),
    Output(ProcessId, Stream),
}

impl Resident {
    /// Serves until the workload has ended and everybody knows.
    pub(super) fn serve(mut self) {
        let mut buffer = vec![0; READ_LEN_MAX];
        loop {
            // First of all: children that ended while the engine was started went unannounced.
            self.settle(&mut buffer);
            if self.is_done() {
                return;
            }
            for token in self.wait() {
                self.handle(token, &mut buffer);
            }
        }
    }

    /// Waits until something is ready, or it is time for something.
    fn wait(&self) -> Vec<Token> {
        let (tokens, mut fds): (Vec<Token>, Vec<PollFd<'_>>) = self.interests().into_iter().unzip();
        let timeout = self.deadline().map_or(PollTimeout::NONE, |deadline| {
            // Rounded up, or the loop would spin through the last millisecond.
            let left_ms = deadline.saturating_duration_since(Instant::now()).as_millis() + 1;
            PollTimeout::try_from(left_ms).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut fds, timeout) {
            Ok(_) => {}
            // A signal that isn't polled for; or no memory for the moment. Everything is looked at again.
            Err(_) => return Vec::new(),
        }
        let is_ready = |fd: &PollFd<'_>| fd.revents().is_none_or(|revents| !revents.is_empty());
        tokens.into_iter().zip(&fds).filter(|(_, fd)| is_ready(fd)).map(|(token, _)| token).collect()
    }

    fn interests(&self) -> Vec<(Token, PollFd<'_>)> {
        let mut interests = vec![(Token::Signals, PollFd::new(self.signals.as_fd(), PollFlags::POLLIN))];
        for (id, client) in &self.clients {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::POLLIN, client.is_heard());
            flags.set(PollFlags::POLLOUT, client.is_behind());
            interests.push((Token::Client(*id), PollFd::new(client.as_fd(), flags)));
        }
        for (id, process) in &self.processes {
            if let Phase::Starting(helper) = &process.phase {
                interests.push((Token::Helper(*id), PollFd::new(helper.awaited(), PollFlags::POLLIN)));
            }
            if let Some(input) = process.input.as_ref().filter(|input| input.is_waiting()) {
                interests.push((Token::Input(*id), PollFd::new(input.as_fd(), PollFlags::POLLOUT)));
            }
            if self.room(process) > 0 {
                for output in &process.outputs {
                    let token = Token::Output(*id, output.stream);
                    interests.push((token, PollFd::new(output.as_fd(), PollFlags::POLLIN)));
                }
            }
        }
        // Last: those who are gone make room for those who come.
        if let Some(listener) = &self.listener {
            interests.push((Token::Listener, PollFd::new(listener.as_fd(), PollFlags::POLLIN)));
        }
        interests
    }

    /// When to look again although nothing became ready.
    fn deadline(&self) -> Option<Instant> {
        let of_process = |process: &Process| {
            let start = match &process.phase {
                Phase::Starting(helper) => Some(helper.deadline()),
                _ => None,
            };
            let quiet =
                process.outputs.iter().filter_map(Output::deadline).min().filter(|_| self.room(process) > 0);
            start.into_iter().chain(quiet).min()
        };
        self.processes.values().filter_map(of_process).chain(self.farewell_at).min()
    }

    fn handle(&mut self, token: Token, buffer: &mut [u8]) {
        match token {
            // It only wakes the loop: children are looked for each time round.
            Token::Signals => while let Ok(Some(_)) = self.signals.read_signal() {},
            Token::Listener => self.accept(),
            Token::Client(id) => {
                // One that isn't heard became writable, or broke: sending finds out.
                let client = self.clients.get_mut(&id).filter(|client| client.is_heard());
                let is_gone = client.is_some_and(|client| client.receive().is_err());
                if is_gone {
                    self.forget_client(id);
                }
            }
            Token::Helper(id) => self.advance_start(id),
            Token::Input(id) => self.pump_input(id),
            Token::Output(id, stream) => self.read_output(id, stream, buffer),
        }
    }

    /// Does what the new state of affairs allows, whatever brought it about.
    fn settle(&mut self, buffer: &mut [u8]) {
        let ids: Vec<ClientId> = self.clients.keys().copied().collect();
        for id in ids {
            self.hear(id);
        }
        self.reap();
        self.abort_late_starts();
        self.drain_ended(buffer);
        self.finish_ended();
        let flushed = self.clients.iter_mut().map(|(id, client)| (*id, client.flush()));
        let gone: Vec<ClientId> =
            flushed.filter_map(|(id, flushed)| flushed.is_err().then_some(id)).collect();
        for id in gone {
            self.forget_client(id);
        }
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else { return };
        // A failure is that of the connection, or a lack of descriptors that others will give back.
        while let Ok(Some(socket)) = listener.accept() {
            let mut client = Client::new(socket);
            if self.clients.len() >= CLIENTS_MAX {
                client.expel(ErrorCode::TOO_MANY, format!("{CLIENTS_MAX} clients are connected already"));
                // It is sent as far as the socket takes it at once, and that is all.
                let _ = client.flush();
                continue;
            }
            self.last_client.0 += 1;
            self.clients.insert(self.last_client, client);
        }
    }

    /// Forgets a client and everything that was for it alone.
    pub(super) fn forget_client(&mut self, gone: ClientId) {
        self.clients.remove(&gone);
        self.describing.retain(|(client, _)| *client != gone);
        self.waiting.retain(|(client, _)| *client != gone);
        for process in self.processes.values_mut() {
            if matches!(process.sink, Sink::Client { client, .. } if client == gone) {
                process.abandon();
            }
        }
    }

    /// How many bytes of a process's output can be taken now.
    fn room(&self, process: &Process) -> usize {
        if !process.may_speak() {
            return 0;
        }
        match &process.sink {
            Sink::Log | Sink::Nowhere => usize::MAX,
            Sink::Client { client, credit, .. } => {
                let has_room = self.clients.get(client).is_some_and(Client::has_room);
                if has_room { credit.available() } else { 0 }
            }
        }
    }

    pub(super) fn pump_input(&mut self, id: ProcessId) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        let Some(input) = &mut process.input else { return };
        let pumped = input.pump();
        if pumped.is_closed {
            process.input = None;
        }
        for ((client, stream), bytes) in pumped.grants {
            if let Some(client) = self.clients.get_mut(&client) {
                client.grant_input(stream, bytes);
            }
        }
    }

    /// Reads once from one output.
    fn read_output(&mut self, id: ProcessId, stream: Stream, buffer: &mut [u8]) {
        let Some(room) = self.processes.get(&id).map(|process| self.room(process)) else { return };
        let Some(process) = self.processes.get_mut(&id) else { return };
        let Some(index) = process.outputs.iter().position(|output| output.stream == stream) else { return };
        let len_max = buffer.len().min(room);
        if len_max == 0 && !process.outputs[index].is_read() {
            return;
        }
        let output = &mut process.outputs[index];
        let outcome = output.read(&mut buffer[..len_max], Instant::now());
        // Nothing would wake the loop for an output that is read to where it counts while somebody holds it open.
        let is_over = outcome == Outcome::Ended || output.is_read();
        if is_over {
            process.outputs.remove(index);
        }
        if let Outcome::Read(len) = outcome {
            self.deliver(id, stream, &buffer[..len]);
        }
        if is_over && id == ProcessId::FIRST {
            self.log.finish(stream);
        }
    }

    fn deliver(&mut self, id: ProcessId, stream: Stream, bytes: &[u8]) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        match &mut process.sink {
            Sink::Log => self.log.write(stream, bytes),
            Sink::Nowhere => {}
            Sink::Client { client, stream: asked, credit } => {
                credit.spend(bytes.len()).expect("no more was read than there was credit for");
                let Some(client) = self.clients.get_mut(client) else { return };
                let data = bytes.to_vec();
                match stream {
                    Stream::Stdout => client.send(*asked, Flags::NONE, Stdout { data }),
                    Stream::Stderr => client.send(*asked, Flags::NONE, Stderr { data }),
                }
            }
        }
    }

    /// Reads on from processes that have ended: what they left, and whether that is all.
    fn drain_ended(&mut self, buffer: &mut [u8]) {
        let ending = self.processes.iter().flat_map(|(id, process)| {
            process.outputs.iter().filter(|output| output.is_ending()).map(|output| (*id, output.stream))
        });
        let ending: Vec<(ProcessId, Stream)> = ending.collect();
        for (id, stream) in ending {
            self.read_output(id, stream, buffer);
        }
    }
}
