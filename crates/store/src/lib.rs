//! Sealed local storage: named tables of rows in one file, every value encrypted and bound to its place.
//!
//! ```text
//!   WrappingKey (data.key or a passphrase)
//!        | unwraps
//!   data key of an epoch, random, kept wrapped in the file
//!        | seals: XChaCha20-Poly1305, AAD = store | table | key | epoch
//!   Batch --put/delete--> Store --one transaction, flushed--> node.redb
//! ```
//!
//! Invariants:
//! - A batch is written completely or not at all; when [`Store::write`] returns, it survives `kill -9`, and with
//!   [`Flush::Always`] also a loss of power.
//! - A value that was changed, cut short, or moved to another row, table, store or epoch is an error that names table
//!   and key, never a value and never a panic.
//! - Table names and keys are stored in the clear; values are not. A row that was deleted, or put back to an earlier
//!   value, can't be told from here: the state's root, kept above, tells that.
//! - Secret bytes are erased on drop and never shown.
//!
//! Reading order: [`store`], [`batch`], [`key`], then `seal` and `keyring` for the cryptography, `medium` for the file.

pub mod batch;
#[cfg(any(test, feature = "faulty"))]
pub mod faulty;
pub mod key;
pub mod store;

mod keyring;
mod medium;
mod rotate;
mod seal;

pub use batch::Batch;
pub use key::WrappingKey;
pub use keyring::KeyringError;
pub use medium::Flush;
pub use rotate::RotateError;
pub use seal::RowError;
pub use store::{OpenError, ReadError, Row, Store, WriteError};
