//! The life of one stream with data and credit, shared by those who read from it and those who write to it.
//!
//! Whoever waits reads the socket for all: there is no task of its own, and a writer that waits for credit can't
//! block the reader that would have received it. It refuses to hold more than the credit it granted.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use hypercore_model::ExitStatus;
use hypercore_wire::{
    Credit, Flags, Message,
    message::{Fault, Stdin, Window},
};
use tokio::sync::Notify;

use super::{
    error::InputError,
    exec::{ExecEvent, exit_status},
    link::{Link, LinkError, Received},
};

/// Output that may be on its way to a reader, in bytes.
pub(super) const OUTPUT_CREDIT: u32 = 256 * 1024;
/// Credit is given back when so much of it was used, in bytes: often enough to keep the pipe full.
const CREDIT_STEP: u32 = OUTPUT_CREDIT / 4;
/// Most input in one message, in bytes.
const INPUT_LEN_MAX: usize = 32 * 1024;

#[derive(Debug)]
pub(super) struct Session {
    link: Link,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// What may be sent to the standard input.
    input_credit: Credit,
    /// Whether the server ever granted any: then the input is open.
    is_input_granted: bool,
    is_input_closed: bool,
    output: VecDeque<ExecEvent>,
    /// Output handed out whose credit was not given back yet, in bytes.
    consumed: u32,
    end: Option<End>,
}

/// What ended the stream.
#[derive(Debug)]
enum End {
    Exited(ExitStatus),
    Refused(Fault),
    Broken(LinkError),
    /// It was handed out, and nothing more will come.
    Told,
}

impl Session {
    pub(super) fn new(link: Link) -> Self {
        Self { link, state: Mutex::default(), changed: Notify::new() }
    }

    /// Refuses input from the beginning: the process was started without.
    pub(super) fn forbid_input(&self) {
        self.lock().is_input_closed = true;
    }

    /// Waits until the server has granted input, or refused to.
    pub(super) async fn opened(&self) -> Result<(), InputError> {
        loop {
            let changed = self.changed.notified();
            {
                let state = self.lock();
                if state.is_input_granted {
                    return Ok(());
                }
                if let Some(end) = &state.end {
                    return Err(end.input_error());
                }
            }
            self.pump(changed).await;
        }
    }

    /// The next piece of output, or the end. `None` after the end.
    pub(super) async fn next(&self) -> Result<Option<ExecEvent>, LinkError> {
        loop {
            let changed = self.changed.notified();
            if let Some(event) = self.take_output() {
                return Ok(Some(event));
            }
            if let Some(end) = self.take_end() {
                return match end {
                    End::Exited(status) => Ok(Some(ExecEvent::Exit(status))),
                    End::Refused(fault) => Err(LinkError::Ended(fault)),
                    End::Broken(error) => Err(error),
                    End::Told => Ok(None),
                };
            }
            self.pump(changed).await;
        }
    }

    /// Writes all of `data` to the standard input, as fast as the process reads it.
    pub(super) async fn write(&self, mut data: &[u8]) -> Result<(), InputError> {
        while !data.is_empty() {
            let changed = self.changed.notified();
            let sent = self.queue_input(data)?;
            data = &data[sent..];
            if sent > 0 {
                self.link.flush().await?;
            } else {
                self.pump(changed).await;
            }
        }
        Ok(())
    }

    /// Closes the standard input.
    pub(super) async fn close(&self) -> Result<(), InputError> {
        {
            let mut state = self.lock();
            if state.is_input_closed {
                return Ok(());
            }
            state.is_input_closed = true;
        }
        let message = Stdin { data: Vec::new() }.into();
        Ok(self.link.send(Link::REQUEST, Flags::END_STREAM, &message).await?)
    }

    /// Sends something that takes no credit and gets no answer.
    pub(super) async fn tell(&self, message: Message) -> Result<(), InputError> {
        if let Some(end) = &self.lock().end {
            return Err(end.input_error());
        }
        Ok(self.link.send(Link::REQUEST, Flags::NONE, &message).await?)
    }

    /// Queues as much of `data` as credit allows, and says how much that was.
    fn queue_input(&self, data: &[u8]) -> Result<usize, InputError> {
        let mut state = self.lock();
        if let Some(end) = &state.end {
            return Err(end.input_error());
        }
        if state.is_input_closed {
            return Err(InputError::NotOpen);
        }
        let len = data.len().min(state.input_credit.available()).min(INPUT_LEN_MAX);
        if len > 0 {
            let message = Stdin { data: data[..len].to_vec() }.into();
            self.link.queue(Link::REQUEST, Flags::NONE, &message)?;
            state.input_credit.spend(len).expect("len is at most the credit");
        }
        Ok(len)
    }

    /// Lets the shim's next message in, or returns when somebody else did.
    async fn pump(&self, changed: impl Future<Output = ()>) {
        tokio::select! {
            // Credit that was queued must leave, or nothing will come.
            received = async { self.link.flush().await?; self.link.receive().await } => {
                let accepted = received.and_then(|received| self.accept(received));
                if let Err(error) = accepted {
                    self.lock().end.get_or_insert(End::Broken(error));
                }
                self.changed.notify_waiters();
            }
            () = changed => {}
        }
    }

    fn accept(&self, received: Received) -> Result<(), LinkError> {
        let mut state = self.lock();
        match received.message {
            Message::Window(window) => {
                state.is_input_granted = true;
                let granted = state.input_credit.grant(window.bytes);
                granted.map_err(|_| LinkError::Unexpected(Message::Window(window).number()))?;
            }
            Message::Stdout(stdout) => state.output.push_back(ExecEvent::Stdout(stdout.data)),
            Message::Stderr(stderr) => state.output.push_back(ExecEvent::Stderr(stderr.data)),
            Message::ExecExited(exited) => state.end = Some(End::Exited(exit_status(exited.exit))),
            Message::Error(fault) => state.end = Some(End::Refused(fault)),
            other => return Err(LinkError::Unexpected(other.number())),
        }
        Ok(())
    }

    fn take_output(&self) -> Option<ExecEvent> {
        let mut state = self.lock();
        let event = state.output.pop_front()?;
        state.consumed += event.len();
        if state.consumed >= CREDIT_STEP && state.end.is_none() {
            let message = Window { bytes: state.consumed }.into();
            self.link.queue(Link::REQUEST, Flags::NONE, &message).expect("a window fits into a frame");
            state.consumed = 0;
        }
        Some(event)
    }

    fn take_end(&self) -> Option<End> {
        let mut state = self.lock();
        state.end.is_some().then(|| state.end.replace(End::Told)).flatten()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl End {
    fn input_error(&self) -> InputError {
        match self {
            Self::Refused(fault) => InputError::from(fault.clone()),
            Self::Broken(error) if !error.means_gone() => InputError::Broken(error.to_string()),
            Self::Exited(_) | Self::Broken(_) | Self::Told => InputError::Ended,
        }
    }
}
