//! Messages about saving a machine and going on from what was saved. Every field's number is frozen.
//! [`Snapshot`] is for the machine's monitor, the others are between the monitor and the guest.

use minicbor::{Decode, Encode};

/// Brings a guest to rest: its disks are written, its workload doesn't run, and nothing more is sent after the
/// [`super::Done`] that answers it, until [`Thaw`]. A new greeting in its place begins a new conversation, in which the
/// first process can be adopted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Quiesce {}

/// Lets a guest go on that was brought to rest. Not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Thaw {}

/// Makes this stream the first process's, as if it had been started by it: what it wrote and nobody was sent comes now,
/// and credit begins anew both ways. Answered by [`super::ExecStarted`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Adopt {}

/// Saves the machine, which goes on afterwards whatever came of it. Answered by [`Snapshotted`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Snapshot {
    /// Where to: an empty directory on the host, absolute. What was written is removed again when it is not whole.
    #[n(0)]
    pub directory: String,
}

/// The machine was saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Snapshotted {
    /// Its memory is a file of its own, which machines that go on from it share; else it is within the state.
    #[n(0)]
    pub is_mapped: bool,
    /// How long the machine did not run, in microseconds.
    #[n(1)]
    pub stopped_us: u64,
}
