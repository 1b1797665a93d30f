//! Why files could not be copied: by step, and by whose fault it is.

use std::io;

use nix::errno::Errno;

use crate::{archive::ArchiveError, path::PathError};

/// Why files could not be copied. Paths are as the caller or the stream wrote them.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// There is nothing at a path.
    #[error("there is no {0}")]
    NoSuchPath(String),
    /// A path that must be a directory is none.
    #[error("{0} is not a directory")]
    NotADirectory(String),
    /// A path in `/proc`, `/sys` and the like.
    #[error("{0} is the kernel's own, and has no files to copy")]
    KernelFiles(String),
    /// Directories within directories beyond what a copy follows.
    #[error("{0} is nested too deeply to be copied")]
    TooDeep(String),
    /// The workload's root can't be entered.
    #[error("the workload's files can't be reached")]
    Root(#[source] io::Error),
    /// A path can't be opened.
    #[error("{path} can't be opened")]
    Open {
        /// The path.
        path: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Something can't be read.
    #[error("{path} can't be read")]
    Read {
        /// The path.
        path: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A file became shorter while it was read.
    #[error("{0} became shorter while it was copied")]
    Changed(String),
    /// The other end went away.
    #[error("the stream broke off")]
    Stream(#[source] io::Error),
    /// What came is no tar archive.
    #[error("the stream is not a tar archive")]
    Archive(#[from] ArchiveError),
    /// A member's name, or a hard link's target, is refused.
    #[error("`{member}` is refused")]
    Name {
        /// The member.
        member: String,
        /// Why.
        #[source]
        source: PathError,
    },
    /// A member is refused.
    #[error("`{member}` is refused: {why}")]
    Refused {
        /// The member.
        member: String,
        /// Why.
        why: &'static str,
    },
    /// The directories of a stream have more names than are kept.
    #[error("the stream has too many directories")]
    TooLarge,
    /// The file system refused a member.
    #[error("`{member}`: can't {step}")]
    Write {
        /// The member.
        member: String,
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Whose fault it is, for who tells it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// What the caller named isn't there.
    NotFound,
    /// What the caller wants can't be: a file where a directory must be, a name that climbs.
    Mistake,
    /// The target is mounted read-only.
    ReadOnly,
    /// The target has no room.
    Full,
    /// This user may not.
    Denied,
    /// The stream ended before its end.
    BrokenOff,
    /// Anything else.
    Other,
}

impl CopyError {
    /// Whose fault it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::NoSuchPath(_) => Fault::NotFound,
            Self::NotADirectory(_)
            | Self::KernelFiles(_)
            | Self::TooDeep(_)
            | Self::Name { .. }
            | Self::Refused { .. }
            | Self::TooLarge => Fault::Mistake,
            Self::Archive(ArchiveError::Read(_)) | Self::Stream(_) => Fault::BrokenOff,
            Self::Archive(_) => Fault::Mistake,
            Self::Changed(_) => Fault::Other,
            Self::Root(source)
            | Self::Open { source, .. }
            | Self::Read { source, .. }
            | Self::Write { source, .. } => of_system(source),
        }
    }
}

fn of_system(error: &io::Error) -> Fault {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EROFS) => Fault::ReadOnly,
        Some(Errno::ENOSPC | Errno::EDQUOT) => Fault::Full,
        Some(Errno::EACCES | Errno::EPERM) => Fault::Denied,
        _ => Fault::Other,
    }
}
