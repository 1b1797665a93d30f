//! The store against a real machine: `kill -9` in a loop, and a real file system that is full.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed step is a failed test, and skipping is told"
)]

mod crash;
mod full_disk;

use hypercore_store::{Flush, Store, WrappingKey};

/// The store in the file, with the key that all of these tests use.
fn open(path: &std::path::Path) -> Store {
    Store::open(path, WrappingKey::from_bytes([7; 32]), Flush::Always).unwrap()
}
