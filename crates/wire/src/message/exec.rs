//! Messages of one execution inside a workload, and the data that flows for it. Every field's number is frozen.

use minicbor::{Decode, Encode};

use super::control::{Exit, Size};

/// Starts a process inside the workload. What isn't given is as for the workload's first process.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Exec {
    /// The program and its arguments.
    #[n(0)]
    pub argv: Vec<String>,
    /// `KEY=VALUE`, added to the first process's environment; same keys replace.
    #[n(1)]
    pub env: Vec<String>,
    /// Working directory inside, absolute.
    #[n(2)]
    pub cwd: Option<String>,
    /// `name|uid[:group|gid]`.
    #[n(3)]
    pub user: Option<String>,
    /// Give it a terminal of its own: output comes as [`Stdout`] alone then.
    #[n(4)]
    pub tty: bool,
    /// Whether input will follow; `/dev/null` otherwise.
    #[n(5)]
    pub stdin: bool,
    /// The terminal's size at the beginning.
    #[n(6)]
    pub size: Option<Size>,
}

/// The process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ExecStarted {
    /// Its id in the server's pid namespace.
    #[n(0)]
    pub pid: i32,
}

/// Sends a signal to the stream's process. Not answered: it may have ended, which is said anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ExecSignal {
    /// The signal's number on Linux.
    #[n(0)]
    pub number: i32,
}

/// Sets the size of the terminal of the stream's process. Not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ExecResize {
    /// The new size.
    #[n(0)]
    pub size: Size,
}

/// The process ended, and all its output was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ExecExited {
    /// How.
    #[n(0)]
    pub exit: Exit,
}

/// Declares a message that carries bytes of a standard stream.
macro_rules! data {
    ($($(#[$doc:meta])* $name:ident),+) => {
        $($(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
        #[cbor(map)]
        pub struct $name {
            /// The bytes; they spend the stream's credit.
            #[n(0)]
            #[cbor(with = "minicbor::bytes")]
            pub data: Vec<u8>,
        })+
    };
}

data! {
    /// Bytes for a standard input.
    Stdin,
    /// Bytes from a standard output.
    Stdout,
    /// Bytes from a standard error.
    Stderr
}
