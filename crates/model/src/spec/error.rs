//! What can be wrong with a spec. It refuses to decide: `WorkloadSpec::validate` does.

use crate::{io_limits::IoLimitError, limits::PIDS_MAX, mount::MountError};

/// One thing wrong with a spec. All of them are reported together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// A list has too many entries.
    #[error("{what}: {count} entries are too many; at most {max} are allowed")]
    TooMany {
        /// Which list.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// A text is too long.
    #[error("{what} is {len} bytes long; at most {max} are allowed")]
    TooLong {
        /// Which text.
        what: String,
        /// Its length in bytes.
        len: usize,
        /// The longest allowed.
        max: usize,
    },
    /// A text has a NUL byte, which no Linux process can be given.
    #[error("{0} has a NUL byte in it")]
    Nul(String),
    /// An environment variable without a key, or a key with `=`.
    #[error("`{0}` is not an environment variable's name")]
    EnvKey(String),
    /// A label key that is empty or has control characters.
    #[error("`{0}` is not a label key: it must not be empty or have control characters")]
    LabelKey(String),
    /// The same host port twice.
    #[error("host port {0} is published twice")]
    PortTwice(u16),
    /// A machine's monitor for what has no machine.
    #[error("a container has no machine for a vmm to run: leave --vmm out, or add --isolation microvm")]
    VmmOfContainer,
    /// A process limit outside its range.
    #[error("a limit of {0} processes is out of range: at least 1, at most {PIDS_MAX}")]
    Pids(u32),
    /// A working directory that isn't absolute.
    #[error("the working directory `{0}` must be an absolute path")]
    Workdir(String),
    /// A mount whose path can't be one.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// Two mounts at the same place.
    #[error("`{0}` is mounted on twice")]
    MountTwice(String),
    /// The same resource limited twice.
    #[error("the resource `{0}` is limited twice")]
    UlimitTwice(&'static str),
    /// A time to live that is none, or too long.
    #[error("a time to live of {0} ms is out of range: at least 1 ms, at most ten years")]
    Ttl(u64),
    /// More time to stop than anybody waits.
    #[error("{0} ms to stop are out of range: at most one day")]
    StopGrace(u64),
    /// Not a signal's number.
    #[error("{0} is not a signal: signals have numbers from 1 to 64")]
    StopSignal(i32),
    /// A limit of disk or network.
    #[error(transparent)]
    IoLimit(#[from] IoLimitError),
    /// A restart and a removal were both asked for.
    #[error("a workload that is removed at its end can't be restarted: choose --rm or --restart")]
    RestartRemoved,
    /// An entrypoint without a program.
    #[error("the entrypoint is given but empty")]
    Entrypoint,
}
