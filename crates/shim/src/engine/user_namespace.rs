//! User namespaces: whom a container's users are on the host.
//!
//! ```text
//!   in the container   on the host                    on disk
//!   0 ... 65,535  -->  first ... first + 65,535  -->  0 ... 65,535 (layers, volumes: mapped mounts)
//!                                                     first ...    (upper: what the workload wrote)
//! ```
//!
//! `libcontainer` makes the container's own namespace; the one made here only tells mapped mounts how to map.
//! It refuses to run anything in it.

use std::{fs, fs::File, io};

use libcontainer::oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType, Spec};
use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
    unistd::{Pid, pipe, read},
};

use super::fork;

/// The single mapping of `spec`, if its container has a user namespace.
pub(super) fn mapping_of(spec: &Spec) -> Option<LinuxIdMapping> {
    let linux = spec.linux().as_ref()?;
    let namespaces = linux.namespaces().as_ref()?;
    namespaces.iter().find(|namespace| namespace.typ() == LinuxNamespaceType::User)?;
    linux.uid_mappings().as_ref()?.first().copied()
}

/// A namespace whose ids, users and groups alike, begin at `first` on the host.
///
/// # Errors
/// The kernel refused one of the steps.
pub(super) fn make(first: u32, count: u32) -> io::Result<File> {
    let (ready_read, ready) = pipe()?;
    let (done_read, done) = pipe()?;
    let child = fork::spawn(None, || {
        let made = unshare(CloneFlags::CLONE_NEWUSER).is_ok();
        let told = nix::unistd::write(&ready, &[u8::from(made)]).is_ok();
        // Until the parent has opened the namespace, something has to be in it.
        told && wait_for_byte(&done_read).is_ok()
    })?;
    let opened = wait_for_byte(&ready_read).and_then(|made| match made {
        1 => open(child, first, count),
        _ => Err(io::Error::other("the kernel makes no user namespace")),
    });
    // A child that is gone already wants no byte.
    let _ = nix::unistd::write(&done, &[1]);
    let ended = fork::wait(child);
    let namespace = opened?;
    ended.map(|_| namespace)
}

fn open(child: Pid, first: u32, count: u32) -> io::Result<File> {
    for file in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{child}/{file}"), format!("0 {first} {count}"))?;
    }
    File::open(format!("/proc/{child}/ns/user"))
}

fn wait_for_byte(pipe: &impl std::os::fd::AsFd) -> io::Result<u8> {
    let mut byte = [0];
    loop {
        match read(pipe, &mut byte) {
            Ok(1) => return Ok(byte[0]),
            Ok(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
