//! Replays the journal of a disk whose writer was cut off, so that it can be read by machines that may not write. What is
//! in it was written by a guest: `e2fsck` takes it apart as a user that owns this one file and nothing else, with its
//! memory and time bounded. It refuses to check or mend anything else.

use std::{
    fs::File,
    io,
    os::unix::{fs::fchown, process::CommandExt as _},
    process::{Command, Stdio},
};

use crate::machine::ext4::Ext4Error;

/// A user of the host that nobody is: above what distributions and user namespaces give out.
const NOBODY_ELSE: u32 = 4_294_900_000;
/// Most address space, in bytes, and processor time, in seconds.
const MEMORY_BYTES_MAX: u64 = 1 << 30;
const CPU_S_MAX: u32 = 120;
/// `e2fsck(8)`: changes were made, and all is well.
const MENDED: i32 = 1;

/// Replays it. `disk` is open to write, and nobody else has it.
pub(super) fn replay(disk: &File) -> Result<(), Ext4Error> {
    let failed = |error| Ext4Error::Tool("e2fsck", error);
    fchown(disk, Some(NOBODY_ELSE), Some(NOBODY_ELSE)).map_err(failed)?;
    let output = run(disk);
    // Whoever it belongs to, nobody else comes near it: it is in a directory of root's.
    fchown(disk, Some(0), Some(0)).map_err(failed)?;
    let output = output.map_err(failed)?;
    if output.status.success() || output.status.code() == Some(MENDED) {
        return disk.sync_all().map_err(failed);
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Ext4Error::Failed("e2fsck", format!("{said} ({})", output.status)))
}

fn run(disk: &File) -> io::Result<std::process::Output> {
    let mut command = Command::new("prlimit");
    command.arg(format!("--as={MEMORY_BYTES_MAX}")).arg(format!("--cpu={CPU_S_MAX}")).arg("--core=0");
    // The descriptor is its only way to the file: it can't enter the directory.
    command.args(["--", "e2fsck", "-y", "-E", "journal_only", "/proc/self/fd/0"]);
    command.uid(NOBODY_ELSE).gid(NOBODY_ELSE).current_dir("/").stdin(Stdio::from(disk.try_clone()?)).output()
}
