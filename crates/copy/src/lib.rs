//! Files between a workload and the outside, as tar streams. The same code runs at all ends: in the agent below a
//! container's root, in the guest below a microVM's, in the command line below the user's.
//!
//! ```text
//!   Root ---- source(path) ------> pack ---- tar ----> unpack ----> destination(path) ---- Root
//! ```
//!
//! Each end takes the other for an enemy. A workload may swap directories for links while it is copied from or into, and
//! a stream may claim any name. So every path a caller gives is resolved by the kernel below its root (`openat2`,
//! `RESOLVE_IN_ROOT`), every step below it goes from one open directory to one name that is never followed, attributes
//! are set on open files alone, and what is opened for reading was seen to be a regular file first.
//! It refuses devices and named pipes of streams, names that climb, and links that lead to a member's place.
//!
//! It refuses to know where a root comes from and how a stream travels; so it has few dependencies, and fits into a
//! guest.
//!
//! Reading order: [`Root`], [`pack`], [`archive`], [`unpack`], [`pieces`].

pub mod archive;
mod error;
mod owner;
mod pack;
pub mod path;
pub mod pieces;
mod root;
pub mod shown;
mod unpack;

pub use error::{CopyError, Fault};
pub use owner::{IdMap, Owner};
pub use pack::{PackRequest, pack};
pub use root::{Destination, Root, Source, Stat};
pub use unpack::{Nodes, UnpackRequest, unpack};

/// What was copied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Files, directories and links.
    pub files: u64,
    /// Bytes of files' contents.
    pub bytes: u64,
    /// Names of what was left out because it is no file, directory or link; the first hundred.
    pub skipped: Vec<String>,
    /// How many were left out.
    pub skipped_count: u64,
}

/// Names kept of what was left out.
const SKIPPED_MAX: usize = 100;

impl Report {
    fn skip(&mut self, name: &[u8]) {
        self.skipped_count += 1;
        if self.skipped.len() < SKIPPED_MAX {
            self.skipped.push(String::from_utf8_lossy(name).into_owned());
        }
    }
}

#[cfg(test)]
mod tests;
