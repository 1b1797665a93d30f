//! Messages: CBOR maps `{v: generation of the type, t: type number, p: fields by number}`, and what each type means.
//!
//! Fields are keyed by number (minicbor's derive) and not by name: frozen bytes then don't depend on how a field is
//! called in Rust, the guest needs no serde, and a shim's code stays small. It refuses to interpret: no field is
//! checked beyond its type.

use minicbor::{Decode, Decoder, Encode, Encoder};

use crate::{
    frame::{Flags, Frame, FrameError, StreamId},
    negotiation::generation_of,
};

mod control;
mod exec;
mod files;
mod guest;
mod snapshot;

pub use control::{
    AskRelease, AskStats, Describe, Done, ErrorCode, Exit, Exited, Fault, Hello, OpenStdin, PowerOff,
    Release, Resize, Shutdown, Signal, Size, State, Wait, Window,
};
pub use exec::{Exec, ExecExited, ExecResize, ExecSignal, ExecStarted, Stderr, Stdin, Stdout};
pub use files::{CopyDone, CopyFiles, CopyStat};
pub use guest::{GuestMount, Prepare, Stats};
pub use snapshot::{Adopt, Quiesce, Snapshot, Snapshotted, Thaw};

/// Why a payload is not a message that can be used.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// A type that a newer peer knows: answer [`ErrorCode::UNSUPPORTED`] on its stream and go on.
    #[error("messages of type {number} are not known here")]
    UnknownType {
        /// The type's number.
        number: u16,
    },
    /// Not CBOR, or not of the promised shape.
    #[error("a message is malformed")]
    Malformed(#[source] minicbor::decode::Error),
}

impl From<minicbor::decode::Error> for DecodeError {
    fn from(error: minicbor::decode::Error) -> Self {
        Self::Malformed(error)
    }
}

/// Writes the enum and its two translations from one table, so that a number can't be used for two types.
macro_rules! messages {
    ($($(#[$doc:meta])* $number:literal $name:ident($body:ident),)+) => {
        /// Everything that can be said. Numbers are only ever appended.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Message {
            $($(#[$doc])* $name($body),)+
        }

        impl Message {
            /// The type's number, `t` on the wire.
            #[must_use]
            pub const fn number(&self) -> u16 {
                match self {
                    $(Self::$name(_) => $number,)+
                }
            }

            /// The generation that brought this type: a peer of an older one doesn't know it.
            #[must_use]
            pub const fn generation(&self) -> u8 {
                generation_of(self.number())
            }

            fn encode_body(&self, encoder: &mut Encoder<&mut Vec<u8>>) {
                let encoded = match self {
                    $(Self::$name(body) => body.encode(encoder, &mut ()),)+
                };
                encoded.expect("a Vec takes whatever is written to it");
            }

            fn decode_body(number: u16, decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
                match number {
                    $($number => Ok(Self::$name($body::decode(decoder, &mut ())?)),)+
                    number => Err(DecodeError::UnknownType { number }),
                }
            }
        }

        $(impl From<$body> for Message {
            fn from(body: $body) -> Self {
                Self::$name(body)
            }
        })+
    };
}

messages! {
    /// First message each way, on stream 0.
    1 Hello(Hello),
    /// A request failed, which ends its stream; on stream 0 it ends the connection.
    2 Error(Fault),
    /// A request was carried out, and there is nothing to say about it.
    3 Done(Done),
    /// Asks for [`State`]. Answered once the workload runs, or failed to.
    4 Describe(Describe),
    /// What the server holds.
    5 State(State),
    /// Asks for [`Exited`], however long that takes.
    6 Wait(Wait),
    /// The workload's first process ended.
    7 Exited(Exited),
    /// Sends a signal to the workload's first process.
    8 Signal(Signal),
    /// Sets the size of the workload's terminal.
    9 Resize(Resize),
    /// Asks to write to the workload's standard input on this stream. Answered by [`Window`].
    10 OpenStdin(OpenStdin),
    /// Bytes for a standard input. With `END_STREAM` it is closed after them.
    11 Stdin(Stdin),
    /// Starts a process inside the workload. Answered by [`ExecStarted`].
    12 Exec(Exec),
    /// The process runs.
    13 ExecStarted(ExecStarted),
    /// Bytes that the process wrote to its standard output, or to its terminal.
    14 Stdout(Stdout),
    /// Bytes that the process wrote to its standard error.
    15 Stderr(Stderr),
    /// The process ended, and all its output was sent.
    16 ExecExited(ExecExited),
    /// Allows the receiver to send more data on this stream.
    17 Window(Window),
    /// Kills the workload at once; the server ends after it. Answered by the end of the connection.
    18 Shutdown(Shutdown),
    /// Sends a signal to the process of this stream.
    19 ExecSignal(ExecSignal),
    /// Sets the size of the terminal of this stream's process.
    20 ExecResize(ExecResize),
    // Generation 2 begins here, see `negotiation`.
    /// Asks for [`Release`].
    21 AskRelease(AskRelease),
    /// Which release of Hypercore the server is of.
    22 Release(Release),
    /// Makes a guest what this workload's machine shall be.
    23 Prepare(Prepare),
    /// Asks a guest for [`Stats`].
    24 AskStats(AskStats),
    /// What a guest uses.
    25 Stats(Stats),
    /// Ends a guest: its processes, then its kernel. Answered by the end of the connection.
    26 PowerOff(PowerOff),
    /// Brings a guest to rest.
    27 Quiesce(Quiesce),
    /// Lets a guest go on that was brought to rest.
    28 Thaw(Thaw),
    /// Makes this stream that of the first process of a guest that goes on from a snapshot.
    29 Adopt(Adopt),
    /// Asks a machine's monitor to save it.
    30 Snapshot(Snapshot),
    /// The machine was saved.
    31 Snapshotted(Snapshotted),
    /// Copies files into the workload or out of it. Answered by [`CopyStat`]; then the tar stream comes as [`Stdout`], or
    /// goes as [`Stdin`] of which the last has `END_STREAM`; then [`CopyDone`]. [`ExecSignal`] breaks it off.
    32 CopyFiles(CopyFiles),
    /// What is at the path of a copy.
    33 CopyStat(CopyStat),
    /// The copy is complete.
    34 CopyDone(CopyDone),
}

impl Message {
    /// The payload's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(32);
        let mut encoder = Encoder::new(&mut bytes);
        let header = encoder
            .map(3)
            .and_then(|e| e.str("v")?.u8(self.generation())?.str("t")?.u16(self.number())?.str("p"))
            .map(|_| ());
        header.expect("a Vec takes whatever is written to it");
        self.encode_body(&mut encoder);
        bytes
    }

    /// Appends a frame of this message to `out`.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] for a message that no frame can hold, such as an exec with a huge environment.
    pub fn encode_to(&self, stream: StreamId, flags: Flags, out: &mut Vec<u8>) -> Result<(), FrameError> {
        Frame { stream, flags, payload: self.encode() }.encode_to(out)
    }

    /// The message in a payload. Keys may come in any order, unknown keys and fields are skipped.
    ///
    /// # Errors
    /// [`DecodeError`]: a type not known here, or bytes that are no message.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let envelope = Envelope::find(payload)?;
        let mut decoder = Decoder::new(payload);
        decoder.set_position(envelope.body_position);
        Self::decode_body(envelope.number, &mut decoder)
    }
}

/// Where in a payload the type and the fields are.
struct Envelope {
    number: u16,
    body_position: usize,
}

impl Envelope {
    fn find(payload: &[u8]) -> Result<Self, minicbor::decode::Error> {
        let mut decoder = Decoder::new(payload);
        let entries = decoder.map()?;
        let entries = entries.ok_or_else(|| minicbor::decode::Error::message("the map has no length"))?;
        let (mut number, mut body_position) = (None, None);
        for _ in 0..entries {
            match decoder.str()? {
                "t" => number = Some(decoder.u16()?),
                "p" => {
                    body_position = Some(decoder.position());
                    decoder.skip()?;
                }
                _ => decoder.skip()?,
            }
        }
        match (number, body_position) {
            (Some(number), Some(body_position)) => Ok(Self { number, body_position }),
            _ => Err(minicbor::decode::Error::message("`t` or `p` is missing")),
        }
    }
}

#[cfg(test)]
mod tests;
