//! Messages about the connection and the workload's first process. Every field's number is frozen.
//! It refuses enums where a newer peer could add a case that an older one must survive: error codes are numbers.

use minicbor::{Decode, Encode};

/// Greeting: which generations of the protocol the sender speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Hello {
    /// The oldest one.
    #[n(0)]
    pub version_min: u8,
    /// The newest one.
    #[n(1)]
    pub version_max: u8,
}

/// What kind of failure a [`Fault`] is. Codes that the receiver doesn't know count as [`ErrorCode::INTERNAL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct ErrorCode(#[n(0)] pub u16);

impl ErrorCode {
    /// The server failed.
    pub const INTERNAL: Self = Self(1);
    /// A message of a type not known to the server.
    pub const UNSUPPORTED: Self = Self(2);
    /// A message that makes no sense: malformed, or not at this point.
    pub const PROTOCOL: Self = Self(3);
    /// No program of that name.
    pub const COMMAND_NOT_FOUND: Self = Self(4);
    /// The program can't be executed.
    pub const NOT_EXECUTABLE: Self = Self(5);
    /// No such user or group in the workload.
    pub const NO_SUCH_USER: Self = Self(6);
    /// The workload is paused.
    pub const FROZEN: Self = Self(7);
    /// The workload has ended.
    pub const NOT_RUNNING: Self = Self(8);
    /// The engine or the kernel failed to start a process.
    pub const ENGINE: Self = Self(9);
    /// Too many executions or streams at once.
    pub const TOO_MANY: Self = Self(10);
    /// The workload has no standard input, or no terminal.
    pub const NOT_OPEN: Self = Self(11);
    /// There is nothing at a path.
    pub const NO_SUCH_PATH: Self = Self(12);
    /// What the caller wants of files can't be: a file where a directory must be, a name that climbs.
    pub const REFUSED: Self = Self(13);
    /// The files are mounted read-only.
    pub const READ_ONLY: Self = Self(14);
    /// The file system has no room.
    pub const FULL: Self = Self(15);
    /// The file system denies it.
    pub const DENIED: Self = Self(16);
    /// A stream of files ended before its end.
    pub const BROKEN_OFF: Self = Self(17);
}

/// A request failed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, thiserror::Error)]
#[cbor(map)]
#[error("{message}")]
pub struct Fault {
    /// What kind of failure, for programs.
    #[n(0)]
    pub code: ErrorCode,
    /// One sentence, for people.
    #[n(1)]
    pub message: String,
}

impl Fault {
    /// A fault of that kind.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// Declares a message without fields.
macro_rules! without_fields {
    ($($(#[$doc:meta])* $name:ident),+) => {
        $($(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
        #[cbor(map)]
        pub struct $name {})+
    };
}

without_fields! {
    /// A request was carried out.
    Done,
    /// Asks for [`State`].
    Describe,
    /// Asks for [`Exited`].
    Wait,
    /// Asks to write to the workload's standard input.
    OpenStdin,
    /// Kills the workload; the server ends after it.
    Shutdown,
    /// Asks for [`Release`].
    AskRelease,
    /// Asks for [`super::Stats`].
    AskStats,
    /// Ends a guest and its machine.
    PowerOff
}

/// Which release of Hypercore the server is of: it may have been installed long before its peer.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Release {
    /// As in `hypercore version`, such as `0.1.0`.
    #[n(0)]
    pub release: String,
}

/// The workload that the server holds, running or just ended.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct State {
    /// The workload's id, as text.
    #[n(0)]
    pub id: String,
    /// Which attempt at running it this is.
    #[n(1)]
    pub attempt: u32,
    /// Its first process, in the server's pid namespace.
    #[n(2)]
    pub pid: i32,
    /// When that process started, in milliseconds since the Unix epoch.
    #[n(3)]
    pub started_at_ms: u64,
    /// Whether it has a terminal.
    #[n(4)]
    pub tty: bool,
    /// Whether its standard input can be written to.
    #[n(5)]
    pub stdin_open: bool,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Exit {
    /// With this code.
    #[n(0)]
    Code(#[n(0)] u8),
    /// By this signal.
    #[n(1)]
    Signal(#[n(0)] u8),
    /// Killed because the workload reached its memory limit.
    #[n(2)]
    OutOfMemory,
}

/// The workload's first process ended. Its output is in the log, and the exit record on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Exited {
    /// How.
    #[n(0)]
    pub exit: Exit,
    /// When it had started, in milliseconds since the Unix epoch.
    #[n(1)]
    pub started_at_ms: u64,
    /// When it ended, in milliseconds since the Unix epoch.
    #[n(2)]
    pub finished_at_ms: u64,
}

/// Sends a signal to the workload's first process. Answered by [`Done`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Signal {
    /// The signal's number on Linux.
    #[n(0)]
    pub number: i32,
}

/// Sets the size of the workload's terminal. Answered by [`Done`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Resize {
    /// The new size.
    #[n(0)]
    pub size: Size,
}

/// Size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Size {
    /// Lines.
    #[n(0)]
    pub rows: u16,
    /// Characters in a line.
    #[n(1)]
    pub columns: u16,
}

/// Adds to what the receiver may send on this stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Window {
    /// Bytes of data; framing doesn't count.
    #[n(0)]
    pub bytes: u32,
}
