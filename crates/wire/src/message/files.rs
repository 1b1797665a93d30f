//! Messages about copying files into a guest and out of it. Every field's number is frozen.
//! What is copied travels as a tar stream in the messages of standard streams, under their credit.

use minicbor::{Decode, Encode};

/// Copies files.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct CopyFiles {
    /// Into the workload; else out of it.
    #[n(0)]
    pub into: bool,
    /// The path inside, as it was typed: what stands at its end says what is meant.
    #[n(1)]
    pub path: String,
    /// Copy what a link at the path leads to, not the link.
    #[n(2)]
    pub follow_link: bool,
}

/// What is at the path.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct CopyStat {
    /// Something is.
    #[n(0)]
    pub exists: bool,
    /// A directory is.
    #[n(1)]
    pub is_directory: bool,
    /// The last part of the path, where links led; `.` for what the path ends in itself.
    #[n(2)]
    pub name: String,
}

/// What was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct CopyDone {
    /// Files, directories and links.
    #[n(0)]
    pub files: u64,
    /// Bytes of files' contents.
    #[n(1)]
    pub bytes: u64,
}
