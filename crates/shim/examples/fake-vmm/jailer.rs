//! Firecracker's jailer as its documentation has it: the root becomes `<base>/<program>/<id>/root`, its owner and the
//! process become the given user, whose the network's device node is. What it leaves out: namespaces, the node of KVM, and
//! the copy of the program, which this one can't run without its libraries.

use std::{env, fs, io, os::unix::fs::chown, path::Path};

use nix::{
    sys::stat::{Mode, SFlag, makedev, mknod},
    unistd::{Gid, Uid, chroot, setgid, setgroups, setuid},
};

use crate::{firecracker, mood::Mood, option};

pub(crate) fn run(arguments: &[String], mood: Mood) -> io::Result<()> {
    let split = arguments.iter().position(|argument| argument == "--");
    let (ours, rest) = arguments.split_at(split.ok_or_else(|| io::Error::other("-- is missing"))?);
    let number = |name: &str| option(ours, name)?.parse::<u32>().map_err(io::Error::other);
    let (user, group) = (number("--uid")?, number("--gid")?);
    let (id, program) = (option(ours, "--id")?, Path::new(option(ours, "--exec-file")?));
    let is_id = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if id.is_empty() || id.len() > 64 || !id.chars().all(is_id) {
        return Err(io::Error::other(format!("{id} is no id")));
    }
    let name = program.file_name().unwrap_or_default();
    if !name.to_string_lossy().contains("firecracker") || !program.is_file() {
        return Err(io::Error::other(format!("{} is no Firecracker", program.display())));
    }
    let root = Path::new(option(ours, "--chroot-base-dir")?).join(name).join(id).join("root");
    chown(&root, Some(user), Some(group))?;
    chroot(&root)?;
    env::set_current_dir("/")?;
    make_tun(user, group)?;
    setgroups(&[])?;
    setgid(Gid::from_raw(group))?;
    setuid(Uid::from_raw(user))?;
    firecracker::run(&rest[1..], mood)
}

/// The device by which TAP devices are opened (10, 200 in Documentation/admin-guide/devices.txt).
fn make_tun(user: u32, group: u32) -> io::Result<()> {
    fs::create_dir_all("/dev/net")?;
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    mknod("/dev/net/tun", SFlag::S_IFCHR, mode, makedev(10, 200))?;
    chown("/dev/net/tun", Some(user), Some(group))
}
