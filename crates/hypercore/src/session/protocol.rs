//! Exec and attach have messages of the same shape and different types; this is the one place that knows both.

use hypercore_api::v1::{self, attach_request, attach_response, exec_request, exec_response};
use hypercore_model::ExitStatus;

/// What comes from the agent.
#[derive(Debug)]
pub(crate) enum Event {
    /// The session is up.
    Started,
    /// Output.
    Stdout(Vec<u8>),
    /// Error output.
    Stderr(Vec<u8>),
    /// The process ended; `None` when how can't be read.
    Exit(Option<ExitStatus>),
}

/// What goes to the agent.
#[derive(Debug)]
pub(crate) enum Input {
    /// Input.
    Data(Vec<u8>),
    /// The input has ended.
    End,
    /// The terminal has another size.
    Resize(v1::TerminalSize),
    /// A signal for the process.
    Signal(i32),
}

/// One of the two calls.
pub(crate) trait Protocol {
    /// Its message to the agent.
    type In: Send + 'static;
    /// Its message from the agent.
    type Out;

    /// Writes an input.
    fn write(input: Input) -> Self::In;
    /// Reads an output. A message of a later release that we don't know counts as a sign of life.
    fn read(message: Self::Out) -> Event;
}

/// `Exec`.
#[derive(Debug)]
pub(crate) enum ExecProtocol {}

/// `Attach`.
#[derive(Debug)]
pub(crate) enum AttachProtocol {}

impl Protocol for ExecProtocol {
    type In = v1::ExecRequest;
    type Out = v1::ExecResponse;

    fn write(input: Input) -> Self::In {
        use exec_request::Message;
        let message = match input {
            Input::Data(bytes) => Message::Stdin(bytes),
            Input::End => Message::StdinClose(true),
            Input::Resize(size) => Message::Resize(size),
            Input::Signal(signal) => Message::Signal(signal),
        };
        v1::ExecRequest { message: Some(message) }
    }

    fn read(message: Self::Out) -> Event {
        use exec_response::Message;
        match message.message {
            Some(Message::Stdout(bytes)) => Event::Stdout(bytes),
            Some(Message::Stderr(bytes)) => Event::Stderr(bytes),
            Some(Message::Exit(status)) => Event::Exit(status.to_model()),
            Some(Message::Started(_)) | None => Event::Started,
        }
    }
}

impl Protocol for AttachProtocol {
    type In = v1::AttachRequest;
    type Out = v1::AttachResponse;

    fn write(input: Input) -> Self::In {
        use attach_request::Message;
        let message = match input {
            Input::Data(bytes) => Message::Stdin(bytes),
            Input::End => Message::StdinClose(true),
            Input::Resize(size) => Message::Resize(size),
            Input::Signal(signal) => Message::Signal(signal),
        };
        v1::AttachRequest { message: Some(message) }
    }

    fn read(message: Self::Out) -> Event {
        use attach_response::Message;
        match message.message {
            Some(Message::Stdout(bytes)) => Event::Stdout(bytes),
            Some(Message::Stderr(bytes)) => Event::Stderr(bytes),
            Some(Message::Exit(status)) => Event::Exit(status.to_model()),
            Some(Message::Attached(_)) | None => Event::Started,
        }
    }
}
