//! The guest behind a fake monitor's vsock socket: it greets, is prepared, and knows the commands `echo WORD...`,
//! `exit CODE`, `cat` and `sleep`. It comes to rest for a snapshot, and its first process can be adopted after one.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    process,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use hypercore_wire::{
    Decoder, ErrorCode, Flags, Frame, Message, StreamId,
    message::{Done, Exec, ExecExited, ExecStarted, Exit, Fault, Stdout, Window},
    negotiation::greeting,
};

use crate::mood::Mood;

/// How many connections a guest that boots refuses.
const BOOT_REFUSALS: usize = 5;
/// The process id of everything that runs in it.
const PID: i32 = 100;
/// Input that it takes, in bytes.
const INPUT_CREDIT: u32 = 65536;

/// Who has connected.
#[derive(Debug, Clone, Default)]
pub(crate) struct Guest(Arc<Mutex<Vec<UnixStream>>>);

impl Guest {
    /// Ends all conversations, as a reset of the device does.
    pub(crate) fn reset(&self) {
        for connection in self.0.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // One that has ended by itself is as good.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    fn remember(&self, connection: &UnixStream) {
        if let Ok(connection) = connection.try_clone() {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
    }
}

/// Listens at the socket of the vsock device, from now on.
pub(crate) fn serve(socket: &Path, mood: Mood) -> io::Result<Guest> {
    let listener = UnixListener::bind(socket)?;
    let guest = Guest::default();
    let ours = guest.clone();
    thread::spawn(move || {
        for (index, connection) in listener.incoming().flatten().enumerate() {
            let mood = mood.clone();
            if mood.guest_refuses || mood.guest_boots && index < BOOT_REFUSALS {
                continue;
            }
            ours.remember(&connection);
            // What a connection breaks by is its own business.
            thread::spawn(move || drop(answer(connection, &mood)));
        }
    });
    Ok(guest)
}

fn answer(mut connection: UnixStream, mood: &Mood) -> io::Result<()> {
    let mut line = String::new();
    BufReader::with_capacity(1, &connection).read_line(&mut line)?;
    if line != "CONNECT 9999\n" {
        return Ok(());
    }
    if mood.guest_is_garbage {
        return connection.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    }
    if mood.guest_is_silent {
        // Until it hangs up.
        return connection.read_to_end(&mut Vec::new()).map(drop);
    }
    connection.write_all(b"OK 1073741824\n")?;
    Conversation { connection, processes: BTreeMap::new() }.run()
}

/// One conversation, with the processes that go on in it; those that are true read their input.
struct Conversation {
    connection: UnixStream,
    processes: BTreeMap<StreamId, bool>,
}

impl Conversation {
    fn run(mut self) -> io::Result<()> {
        self.send(StreamId::CONNECTION, Flags::NONE, greeting())?;
        let (mut decoder, mut buffer) = (Decoder::new(), [0; 4096]);
        loop {
            while let Some(frame) = decoder.next_frame().map_err(io::Error::other)? {
                self.take(&frame)?;
            }
            match self.connection.read(&mut buffer)? {
                0 => return Ok(()),
                len => decoder.push(&buffer[..len]),
            }
        }
    }

    fn take(&mut self, frame: &Frame) -> io::Result<()> {
        let stream = frame.stream;
        match Message::decode(&frame.payload).map_err(io::Error::other)? {
            Message::Prepare(_) | Message::Quiesce(_) => self.send(stream, Flags::END_STREAM, Done {}),
            Message::Exec(exec) => self.exec(stream, &exec),
            Message::Adopt(_) => self.begin(stream, false),
            Message::Stdin(stdin) if self.processes.get(&stream) == Some(&true) => {
                if !stdin.data.is_empty() {
                    self.send(stream, Flags::NONE, Stdout { data: stdin.data })?;
                }
                if frame.flags.is_end() { self.exit(stream, Exit::Code(0)) } else { Ok(()) }
            }
            Message::ExecSignal(signal) if self.processes.contains_key(&stream) => {
                self.exit(stream, Exit::Signal(u8::try_from(signal.number).unwrap_or(9)))
            }
            // As a machine that was turned off.
            Message::PowerOff(_) => process::exit(0),
            _ => Ok(()),
        }
    }

    fn exec(&mut self, stream: StreamId, exec: &Exec) -> io::Result<()> {
        let words: Vec<&str> = exec.argv.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["echo", words @ ..] => {
                self.begin(stream, false)?;
                let data = format!("{}\n", words.join(" ")).into_bytes();
                self.send(stream, Flags::NONE, Stdout { data })?;
                self.exit(stream, Exit::Code(0))
            }
            ["exit", code] => {
                self.begin(stream, false)?;
                self.exit(stream, Exit::Code(code.parse().unwrap_or(255)))
            }
            [name @ ("cat" | "sleep")] => self.begin(stream, *name == "cat"),
            _ => {
                let fault = Fault::new(ErrorCode::COMMAND_NOT_FOUND, format!("no {words:?}"));
                self.send(stream, Flags::END_STREAM, fault)
            }
        }
    }

    fn begin(&mut self, stream: StreamId, reads_input: bool) -> io::Result<()> {
        self.processes.insert(stream, reads_input);
        self.send(stream, Flags::NONE, ExecStarted { pid: PID })?;
        self.send(stream, Flags::NONE, Window { bytes: INPUT_CREDIT })
    }

    fn exit(&mut self, stream: StreamId, exit: Exit) -> io::Result<()> {
        self.processes.remove(&stream);
        self.send(stream, Flags::END_STREAM, ExecExited { exit })
    }

    fn send(&mut self, stream: StreamId, flags: Flags, message: impl Into<Message>) -> io::Result<()> {
        let mut bytes = Vec::new();
        message.into().encode_to(stream, flags, &mut bytes).map_err(io::Error::other)?;
        self.connection.write_all(&bytes)
    }
}
