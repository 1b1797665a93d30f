//! What clients ask for. Each request is answered on its stream; what makes no sense ends the stream, or the connection
//! when the protocol itself was broken. It refuses nothing silently.

use std::{io, time::Instant};

use hypercore_wire::{
    Credit, ErrorCode, Flags, Frame, Message, StreamId,
    frame::FrameError,
    message::{DecodeError, Done, Exec, Hello, Release, Size, Stdin},
    negotiate,
    negotiation::greeting,
};
use nix::libc::SIGKILL;

use super::{
    Resident, Standing,
    client::ClientId,
    helper::Helper,
    input::Input,
    process::{Process, ProcessId, Sink},
};
use crate::{process::ProcessRequest, terminal::TerminalSize};

/// Most requests at once that wait for the same thing.
pub(super) const WAITING_MAX: usize = 1024;
/// Most streams of one client with input.
const INPUTS_MAX: usize = 128;
/// Most executions at once.
const EXECS_MAX: usize = 128;

impl Resident {
    /// Handles what came from a client, as long as it takes the answers.
    pub(super) fn hear(&mut self, id: ClientId) {
        while let Some(client) = self.clients.get_mut(&id) {
            match client.next_frame() {
                Ok(Some(frame)) => self.take_frame(id, &frame),
                Ok(None) => return,
                Err(error @ (FrameError::TooLong { .. } | FrameError::TooShort { .. })) => {
                    return client.expel(ErrorCode::PROTOCOL, error.to_string());
                }
            }
        }
    }

    fn take_frame(&mut self, id: ClientId, frame: &Frame) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let stream = frame.stream;
        match Message::decode(&frame.payload) {
            Ok(Message::Hello(hello)) if stream == StreamId::CONNECTION => self.greet(id, hello),
            Ok(_) if !client.is_greeted => {
                client.expel(ErrorCode::PROTOCOL, "the first message must be a greeting")
            }
            Ok(_) if stream == StreamId::CONNECTION => {
                client.expel(ErrorCode::PROTOCOL, "nothing but greetings goes over stream 0");
            }
            Ok(message) => self.take_message(id, stream, frame.flags, message),
            Err(DecodeError::UnknownType { number }) => {
                let message = format!("messages of type {number} are not known to this shim");
                client.refuse(stream, ErrorCode::UNSUPPORTED, message);
            }
            Err(error @ DecodeError::Malformed(_)) => {
                client.refuse(stream, ErrorCode::PROTOCOL, error.to_string());
            }
        }
    }

    fn greet(&mut self, id: ClientId, hello: Hello) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        if client.is_greeted {
            return client.expel(ErrorCode::PROTOCOL, "one greeting is enough");
        }
        client.send(StreamId::CONNECTION, Flags::NONE, greeting());
        match negotiate(greeting(), hello) {
            Ok(_) => client.is_greeted = true,
            Err(error) => client.expel(ErrorCode::UNSUPPORTED, error.to_string()),
        }
    }

    fn take_message(&mut self, id: ClientId, stream: StreamId, flags: Flags, message: Message) {
        match message {
            Message::Describe(_) => self.describe(id, stream),
            Message::Wait(_) => self.wait_for_end(id, stream),
            Message::Signal(signal) => self.signal(id, stream, signal.number),
            Message::Resize(resize) => self.resize(id, stream, resize.size),
            Message::ExecSignal(signal) => self.tell_exec(id, stream, |exec| exec.kill(signal.number)),
            Message::ExecResize(resize) => {
                self.tell_exec(id, stream, |exec| exec.resize(terminal_size(resize.size)).map(drop))
            }
            Message::OpenStdin(_) => self.open_stdin(id, stream),
            Message::Stdin(stdin) => self.take_input(id, stream, flags, stdin),
            Message::Exec(exec) => self.exec(id, stream, exec),
            Message::Window(window) => self.grant_output(id, stream, window.bytes),
            Message::Shutdown(_) => self.shut_down(),
            Message::AskRelease(_) => self.answer(id, stream, release()),
            other => {
                let message = format!("messages of type {} are the shim's to send", other.number());
                self.refuse(id, stream, ErrorCode::PROTOCOL, message);
            }
        }
    }

    fn refuse(&mut self, id: ClientId, stream: StreamId, code: ErrorCode, message: impl Into<String>) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.refuse(stream, code, message);
        }
    }

    fn wait_for_end(&mut self, id: ClientId, stream: StreamId) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        match &self.standing {
            Standing::Ended(_, exited) => client.send(stream, Flags::END_STREAM, *exited),
            Standing::Failed(fault) => client.send(stream, Flags::END_STREAM, fault.clone()),
            Standing::Starting | Standing::Running(_) if self.waiting.len() >= WAITING_MAX => {
                client.refuse(stream, ErrorCode::TOO_MANY, "too many wait for the end already");
            }
            Standing::Starting | Standing::Running(_) => self.waiting.push((id, stream)),
        }
    }

    fn signal(&mut self, id: ClientId, stream: StreamId, number: i32) {
        let outcome = self.processes.get_mut(&ProcessId::FIRST).map(|first| first.kill(number));
        match outcome {
            Some(Ok(())) => self.done(id, stream),
            Some(Err(error)) => {
                self.refuse(id, stream, ErrorCode::INTERNAL, format!("signal {number}: {error}"))
            }
            None => self.refuse(id, stream, ErrorCode::NOT_RUNNING, "the workload has ended"),
        }
    }

    fn resize(&mut self, id: ClientId, stream: StreamId, size: Size) {
        match self.processes.get(&ProcessId::FIRST).map(|first| first.resize(terminal_size(size))) {
            Some(Ok(true)) => self.done(id, stream),
            Some(Ok(false)) => self.refuse(id, stream, ErrorCode::NOT_OPEN, "the workload has no terminal"),
            Some(Err(error)) => {
                self.refuse(id, stream, ErrorCode::INTERNAL, format!("the terminal: {error}"))
            }
            None => self.refuse(id, stream, ErrorCode::NOT_RUNNING, "the workload has ended"),
        }
    }

    /// Does something to the stream's execution. It may have ended just now, which its asker is told anyway.
    fn tell_exec(
        &mut self,
        id: ClientId,
        stream: StreamId,
        tell: impl FnOnce(&mut Process) -> io::Result<()>,
    ) {
        if let Some(exec) = self.processes.values_mut().find(|process| process.is_for(id, stream)) {
            let _ = tell(exec);
        }
    }

    fn done(&mut self, id: ClientId, stream: StreamId) {
        self.answer(id, stream, Done {});
    }

    fn answer(&mut self, id: ClientId, stream: StreamId, answer: impl Into<Message>) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.send(stream, Flags::END_STREAM, answer);
        }
    }

    fn open_stdin(&mut self, id: ClientId, stream: StreamId) {
        let input = self.processes.get(&ProcessId::FIRST).and_then(|first| first.input.as_ref());
        let (is_open, has_room) = (input.is_some_and(Input::is_open), input.is_some_and(Input::has_room));
        let Some(client) = self.clients.get_mut(&id) else { return };
        if client.inputs.contains_key(&stream) {
            client.expel(ErrorCode::PROTOCOL, "the stream is in use");
        } else if !is_open {
            client.refuse(stream, ErrorCode::NOT_OPEN, "the workload's standard input is not open");
        } else if client.inputs.len() >= INPUTS_MAX || !has_room {
            client.refuse(stream, ErrorCode::TOO_MANY, "too much input waits for the workload already");
        } else {
            client.open_input(stream);
        }
    }

    fn take_input(&mut self, id: ClientId, stream: StreamId, flags: Flags, stdin: Stdin) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let Some(credit) = client.inputs.get_mut(&stream) else {
            // An execution that has just ended, or one without input. Nobody waits for an answer.
            return;
        };
        if let Err(error) = credit.spend(stdin.data.len()) {
            return client.expel(ErrorCode::PROTOCOL, error.to_string());
        }
        let freed = u32::try_from(stdin.data.len()).unwrap_or(u32::MAX);
        let exec = self.processes.iter().find(|(_, process)| process.is_for(id, stream)).map(|(id, _)| *id);
        let target = exec.unwrap_or(ProcessId::FIRST);
        let Some(input) = self.processes.get_mut(&target).and_then(|process| process.input.as_mut()) else {
            // The process closed its input: what comes is dropped, and whoever sends it isn't held up.
            return client.grant_input(stream, freed);
        };
        input.push((id, stream), stdin.data);
        if flags.is_end() {
            input.push_end();
            client.inputs.remove(&stream);
        }
        self.pump_input(target);
    }

    fn exec(&mut self, id: ClientId, stream: StreamId, exec: Exec) {
        let is_used = self.processes.values().any(|process| process.is_for(id, stream));
        let Some(client) = self.clients.get_mut(&id) else { return };
        if is_used || client.inputs.contains_key(&stream) {
            return client.expel(ErrorCode::PROTOCOL, "the stream is in use");
        }
        if !matches!(self.standing, Standing::Running(_)) {
            return client.refuse(stream, ErrorCode::NOT_RUNNING, "the workload does not run");
        }
        if self.processes.len() > EXECS_MAX {
            return client.refuse(stream, ErrorCode::TOO_MANY, format!("{EXECS_MAX} executions run already"));
        }
        self.last_process.0 += 1;
        let number = self.last_process;
        let Exec { argv, env, cwd, user, tty, stdin: wants_input, size } = exec;
        let request = ProcessRequest { argv, env, user, workdir: cwd, tty, size: size.map(terminal_size) };
        match Helper::exec(&self.arguments, number.0, &request, wants_input) {
            Ok((helper, ends)) => {
                let sink = Sink::Client { client: id, stream, credit: Credit::default() };
                self.processes.insert(number, Process::starting(helper, ends, sink, wants_input));
            }
            Err(error) => {
                client.refuse(stream, ErrorCode::INTERNAL, format!("the engine can't be started: {error}"));
            }
        }
    }

    fn grant_output(&mut self, id: ClientId, stream: StreamId, bytes: u32) {
        let process = self.processes.values_mut().find(|process| process.is_for(id, stream));
        let Some(Process { sink: Sink::Client { credit, .. }, .. }) = process else {
            // An execution that has just ended.
            return;
        };
        if let Err(error) = credit.grant(bytes)
            && let Some(client) = self.clients.get_mut(&id)
        {
            client.expel(ErrorCode::PROTOCOL, error.to_string());
        }
    }

    /// Kills the workload, at once or as soon as it runs. The end of it is the end of the shim.
    fn shut_down(&mut self) {
        match self.processes.get_mut(&ProcessId::FIRST) {
            // It may have ended just now.
            Some(first) => drop(first.kill(SIGKILL)),
            None => self.farewell_at = Some(self.farewell_at.unwrap_or_else(Instant::now)),
        }
    }
}

/// The release this program was built as.
fn release() -> Release {
    Release { release: env!("CARGO_PKG_VERSION").to_owned() }
}

const fn terminal_size(size: Size) -> TerminalSize {
    TerminalSize { rows: size.rows, columns: size.columns }
}
