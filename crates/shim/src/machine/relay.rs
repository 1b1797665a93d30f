//! One process in the guest and its stand-in on the host: bytes both ways as fast as either side takes them, signals,
//! the terminal's size, and the end. It refuses to hold more than the protocol's credit.

use std::{
    fs::File,
    io::{self, Read, Write},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
};

use hypercore_model::machine::KILL_INSIDE;
use hypercore_wire::{
    Credit, ErrorCode, Flags, Message, StreamId,
    message::{ExecResize, ExecSignal, Exit, Fault, Stdin, Window},
};
use nix::{libc, sys::signal::Signal};

use super::{
    peer::{PeerError, Receiver, Sender},
    signals::Signals,
    streams::{self, Streams},
};

/// The only stream of a stand-in's connection.
const STREAM: StreamId = StreamId(1);
/// Output that may be on its way to us, in bytes.
pub(super) const OUTPUT_CREDIT: u32 = 64 * 1024;
/// Bytes read from standard input at once.
const READ_LEN_MAX: usize = 16 * 1024;

/// A connection to the guest, after the greetings.
#[derive(Debug)]
pub(super) struct Relay {
    sender: Sender,
    receiver: Receiver,
}

/// Input credit, and who waits for it.
#[derive(Debug, Default)]
struct Allowance {
    credit: Mutex<Credit>,
    granted: Condvar,
}

impl Relay {
    /// A relay over a greeted connection.
    pub(super) const fn new(sender: Sender, receiver: Receiver) -> Self {
        Self { sender, receiver }
    }

    /// Starts the process in the guest, or makes its first one this relay's.
    ///
    /// # Errors
    /// Why the guest could not.
    pub(super) fn start(&mut self, request: impl Into<Message>) -> Result<(), Fault> {
        let lost = |error: &dyn std::error::Error| {
            Fault::new(ErrorCode::ENGINE, format!("the guest is gone: {error}"))
        };
        self.sender.send(STREAM, Flags::NONE, request).map_err(|error| lost(&error))?;
        let allowed = self.sender.send(STREAM, Flags::NONE, Window { bytes: OUTPUT_CREDIT });
        allowed.map_err(|error| lost(&error))?;
        let frame = self.receiver.next_frame().map_err(|error| lost(&error))?;
        match Message::decode(&frame.payload) {
            Ok(Message::ExecStarted(_)) => Ok(()),
            Ok(Message::Error(fault)) => Err(fault),
            // Nothing else comes before it.
            _ => Err(Fault::new(ErrorCode::ENGINE, "the guest answered with something else")),
        }
    }

    /// Carries everything until the process has ended, and says how. When the connection breaks, the machine is gone.
    pub(super) fn run(mut self, streams: Streams, signals: Signals) -> Result<Exit, PeerError> {
        let Streams { stdin, mut stdout, mut stderr, terminal } = streams;
        let allowance = Arc::new(Allowance::default());
        self.forward_signals(signals, terminal);
        let (sender, ours) = (self.sender.clone(), Arc::clone(&allowance));
        thread::spawn(move || feed(stdin, &sender, &ours));
        loop {
            let frame = self.receiver.next_frame()?;
            let written = match Message::decode(&frame.payload) {
                Ok(Message::Stdout(piece)) => Some((stdout.write_all(&piece.data), piece.data.len())),
                Ok(Message::Stderr(piece)) => Some((stderr.write_all(&piece.data), piece.data.len())),
                Ok(Message::Window(window)) => {
                    allowance.grant(window.bytes);
                    None
                }
                // It was adopted anew, over another connection of the machine's: what it takes now comes next.
                Ok(Message::ExecStarted(_)) => {
                    allowance.renew();
                    None
                }
                Ok(Message::ExecExited(exited)) => return Ok(exited.exit),
                // A newer guest may say more than we know.
                _ => None,
            };
            if let Some((written, len)) = written {
                // Nobody reads any more: the process is not held up by that, as it would not be by a closed log.
                let _ = written;
                let bytes = u32::try_from(len).unwrap_or(u32::MAX);
                self.sender.send(STREAM, Flags::NONE, Window { bytes }).map_err(PeerError::Broken)?;
            }
        }
    }

    fn forward_signals(&self, signals: Signals, terminal: Option<File>) {
        let sender = self.sender.clone();
        // The size that the terminal had before anybody could tell.
        let resize = move |sender: &Sender| {
            if let Some(size) = terminal.as_ref().and_then(streams::size) {
                let _ = sender.send(STREAM, Flags::NONE, ExecResize { size });
            }
        };
        resize(&sender);
        signals.forward(move |signal| match signal {
            Signal::SIGWINCH => resize(&sender),
            signal if signal as i32 == KILL_INSIDE => {
                drop(sender.send(STREAM, Flags::NONE, ExecSignal { number: libc::SIGKILL }));
            }
            // A guest that is gone has no process to signal.
            signal => drop(sender.send(STREAM, Flags::NONE, ExecSignal { number: signal as i32 })),
        });
    }
}

/// Sends standard input, as the guest allows, and its end.
fn feed(mut stdin: File, sender: &Sender, allowance: &Allowance) {
    let mut buffer = vec![0; READ_LEN_MAX];
    loop {
        match stdin.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => {
                let mut rest = &buffer[..len];
                while !rest.is_empty() {
                    let (piece, later) = rest.split_at(allowance.take(rest.len()));
                    if sender.send(STREAM, Flags::NONE, Stdin { data: piece.to_vec() }).is_err() {
                        return;
                    }
                    rest = later;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A terminal whose other end is closed.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => break,
            Err(_) => break,
        }
    }
    let _ = sender.send(STREAM, Flags::END_STREAM, Stdin { data: Vec::new() });
}

impl Allowance {
    fn grant(&self, bytes: u32) {
        // A guest that grants too much gets no more for it.
        let _ = self.credit.lock().unwrap_or_else(PoisonError::into_inner).grant(bytes);
        self.granted.notify_all();
    }

    fn renew(&self) {
        *self.credit.lock().unwrap_or_else(PoisonError::into_inner) = Credit::default();
    }

    /// Waits for credit, and takes at most `wanted` bytes of it.
    fn take(&self, wanted: usize) -> usize {
        let credit = self.credit.lock().unwrap_or_else(PoisonError::into_inner);
        let is_empty = |credit: &mut Credit| credit.available() == 0;
        let mut credit = self.granted.wait_while(credit, is_empty).unwrap_or_else(PoisonError::into_inner);
        let len = wanted.min(credit.available());
        credit.spend(len).expect("no more than there is");
        len
    }
}
