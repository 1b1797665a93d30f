//! What a microVM boots from: a kernel, an initramfs made for it, the image as one filesystem that all machines share,
//! and a disk of the machine's own.
//!
//! ```text
//!   kernel package --> modules --+
//!                                +--> initramfs          (once for a kernel and a guest agent)
//!   hypercore-guest -------------+
//!   image layers --> overlay --> mkfs.ext4 -d --> <digest>.ext4   (once for an image)
//!   mkfs.ext4 ----> template ----> sparse copy    (once, then for each machine)
//! ```
//!
//! What runs in a machine is reached through its monitor: [`contact`], [`files`].
//!
//! Invariants:
//! - What is cached is named after what it was made from, and appears whole or not at all.
//! - Nothing here runs a machine: that is `hypercore-vmm`'s.

pub mod bundle;
pub mod contact;
pub mod disk;
pub mod ending;
pub mod ext4;
pub mod files;
pub mod initramfs;
pub mod kernel;
pub mod root_image;
pub mod snapshot;
pub mod vmlinux;

mod boot;
mod modules;
mod once;
mod seal;
mod storage;

pub use storage::find_file_server;
