//! A volume as a disk: an ext4 filesystem in one sparse file, which a microVM's own kernel mounts. It refuses to let two
//! kernels at it of which one writes, and to take it apart on the host: what is in it was written by a guest.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

use super::replay::replay;
use crate::machine::{
    disk,
    ext4::{self, Ext4Error},
};

/// The program that gives a new filesystem's root its owner.
const DEBUGFS: &str = "debugfs";
/// Where ext4 keeps what a kernel must know to mount it (Documentation/filesystems/ext4/super.rst: the superblock
/// begins at 1024, `s_feature_incompat` is at 0x60 in it), and the bit of a journal that must be replayed.
const INCOMPATIBLE_AT: u64 = 1024 + 0x60;
const NEEDS_RECOVERY: u32 = 0x4;

/// Why a volume's disk can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// It can't be made.
    #[error("its disk can't be made")]
    Make(#[from] Ext4Error),
    /// A file of it.
    #[error("{} can't be used", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Another machine has it, and one of them would write.
    #[error("another microVM {}", if *.is_wanted_to_write { "has it mounted, and only one may when it is to be written" } else { "writes to it" })]
    Busy {
        /// Whether it was to be written.
        is_wanted_to_write: bool,
    },
    /// Whoever wrote it last was cut off, and its journal can't be replayed.
    #[error("the machine that wrote to it last was cut off, and it can't be put in order to be read")]
    Unclean(#[source] Ext4Error),
}

/// Makes the disk `path` of `capacity_bytes` with a copy of `content`, the root's owner and mode included. It appears
/// whole or not at all.
pub(super) fn make(path: &Path, capacity_bytes: u64, content: Option<&Path>) -> Result<(), BlockError> {
    let new = path.with_extension("new");
    let failed = |source| BlockError::File { path: path.to_owned(), source };
    let file = disk::create_private(&new).map_err(failed)?;
    file.set_len(capacity_bytes).map_err(failed)?;
    ext4::make(&new, &disk::EMPTY, content)?;
    dress(&new, content)?;
    file.sync_all().and_then(|()| fs::rename(&new, path)).map_err(failed)
}

/// What `mkfs.ext4` doesn't do: the root gets the owner and mode of `content`, and no directory for lost files in it,
/// which would make programs believe that the volume isn't empty.
fn dress(disk: &Path, content: Option<&Path>) -> Result<(), BlockError> {
    let mut script = "rmdir /lost+found\n".to_owned();
    if let Some(content) = content {
        let failed = |source| BlockError::File { path: content.to_owned(), source };
        let metadata = fs::metadata(content).map_err(failed)?;
        script += &format!("set_inode_field / mode 0{:o}\n", metadata.mode());
        script += &format!("set_inode_field / uid {}\n", metadata.uid());
        script += &format!("set_inode_field / gid {}\n", metadata.gid());
    }
    let failed = |error| BlockError::Make(Ext4Error::Tool(DEBUGFS, error));
    let mut command = Command::new(DEBUGFS);
    command.args(["-w", "-f", "-"]).arg(disk).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.stderr(Stdio::piped()).spawn().map_err(failed)?;
    let mut stdin = child.stdin.take().expect("its input is piped");
    let written = stdin.write_all(script.as_bytes());
    drop(stdin);
    let output = written.and_then(|()| child.wait_with_output()).map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(BlockError::Make(Ext4Error::Failed(DEBUGFS, said)))
}

/// Whether a machine may have the disk now. One that is to be read is put in order first, if its writer was cut off: a
/// kernel that writes does that itself. It isn't kept for the machine, whose monitor holds the disk by the same lock.
pub(super) fn check_free(path: &Path, is_read_only: bool) -> Result<(), BlockError> {
    let failed = |source| BlockError::File { path: path.to_owned(), source };
    let mut file = File::options().read(true).write(true).open(path).map_err(failed)?;
    // A writer that is at work leaves the same mark as one that was cut off.
    let is_unclean = is_read_only && needs_recovery(&mut file).map_err(failed)?;
    let is_shared = is_read_only && !is_unclean;
    let how = if is_shared { FlockArg::LockSharedNonblock } else { FlockArg::LockExclusiveNonblock };
    match lock(file, how) {
        Ok(held) if is_unclean => replay(&held).map_err(BlockError::Unclean),
        Ok(_) => Ok(()),
        Err(Errno::EWOULDBLOCK) => Err(BlockError::Busy { is_wanted_to_write: !is_read_only }),
        Err(error) => Err(failed(error.into())),
    }
}

fn lock(file: File, how: FlockArg) -> Result<Flock<File>, Errno> {
    Flock::lock(file, how).map_err(|(_, error)| error)
}

fn needs_recovery(file: &mut File) -> io::Result<bool> {
    let mut bytes = [0; 4];
    file.seek(SeekFrom::Start(INCOMPATIBLE_AT))?;
    file.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes) & NEEDS_RECOVERY != 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, PermissionsExt};

    use hypercore_fixtures::skip_without_root;

    use super::*;

    fn disk() -> (tempfile::TempDir, PathBuf) {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("disk.ext4");
        make(&path, 16 << 20, None).unwrap();
        (scratch, path)
    }

    #[test]
    fn a_disk_begins_with_the_content_and_its_owner() {
        let scratch = tempfile::tempdir().unwrap();
        let (path, content) = (scratch.path().join("disk.ext4"), scratch.path().join("content"));
        fs::create_dir(&content).unwrap();
        fs::write(content.join("file"), "first").unwrap();
        fs::set_permissions(&content, fs::Permissions::from_mode(0o1770)).unwrap();
        make(&path, 32 << 20, Some(&content)).unwrap();
        let look = |request: &str| {
            ext4::run(DEBUGFS, Command::new(DEBUGFS).args(["-R", request]).arg(&path)).unwrap()
        };
        assert_eq!(look("cat /file"), "first");
        assert!(look("stat /").contains("Mode:  01770"), "{}", look("stat /"));
        assert!(!look("ls /").contains("lost+found"));
        let metadata = fs::metadata(&path).unwrap();
        assert!(metadata.blocks() * 512 < metadata.len() / 4, "it is not sparse: {metadata:?}");
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 2, "something is left beside it");
    }

    #[test]
    fn one_writes_or_many_read() {
        let (_scratch, path) = disk();
        let hold = |how| Flock::lock(File::open(&path).unwrap(), how).unwrap();
        let reader = hold(FlockArg::LockShared);
        check_free(&path, true).unwrap();
        assert!(matches!(check_free(&path, false), Err(BlockError::Busy { is_wanted_to_write: true })));
        drop(reader);
        let writer = hold(FlockArg::LockExclusive);
        for is_read_only in [true, false] {
            assert!(matches!(check_free(&path, is_read_only), Err(BlockError::Busy { .. })));
        }
        drop(writer);
        check_free(&path, false).unwrap();
    }

    #[test]
    fn what_was_cut_off_is_put_in_order_unless_somebody_has_it() {
        if skip_without_root("what_was_cut_off_is_put_in_order_unless_somebody_has_it") {
            return;
        }
        let (_scratch, path) = disk();
        let mut file = File::options().read(true).write(true).open(&path).unwrap();
        let mut flags = [0; 4];
        file.read_exact_at(&mut flags, INCOMPATIBLE_AT).unwrap();
        file.write_all_at(&(u32::from_le_bytes(flags) | NEEDS_RECOVERY).to_le_bytes(), INCOMPATIBLE_AT)
            .unwrap();
        let writer = Flock::lock(File::open(&path).unwrap(), FlockArg::LockExclusive).unwrap();
        assert!(matches!(check_free(&path, true), Err(BlockError::Busy { is_wanted_to_write: false })));
        drop(writer);
        check_free(&path, false).unwrap();
        assert!(needs_recovery(&mut file).unwrap(), "a writer does it itself");
        check_free(&path, true).unwrap();
        assert!(!needs_recovery(&mut file).unwrap());
        let metadata = file.metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.mode() & 0o777), (0, 0o600));
        // All of it: there are copies of what a kernel needs to mount it.
        file.write_all_at(&vec![0xff; 16 << 20], 0).unwrap();
        assert!(matches!(check_free(&path, true), Err(BlockError::Unclean(_))));
    }
}
