//! Room on the disk that is given up when the state can't be written for lack of it: a workload that filled the disk can
//! then still be stopped and removed, which is what makes room again. It refuses to be spent on making more.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use hypercore_cluster::state::Command;
use nix::{
    fcntl::{FallocateFlags, fallocate},
    sys::statvfs::statvfs,
};

/// How much is set apart, in bytes: the store's file grows by less, up to some ten thousand workloads.
const LEN: u64 = 16 * 1024 * 1024;
/// How many times that must be free before it is taken: the reserve must not be what fills the disk.
const FREE_MIN: u64 = 4;
/// How long after a failure, or after it was given up, it is tried again.
const AGAIN: Duration = Duration::from_secs(30);

/// The file that takes the room.
#[derive(Debug)]
pub(super) struct Ballast {
    path: PathBuf,
    /// When to look whether there is room for it; `None` while it is there.
    due: Option<Instant>,
}

impl Ballast {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, due: Some(Instant::now()) }
    }

    /// Takes the room if it is due and there is enough.
    pub(super) fn renew(&mut self) {
        let now = Instant::now();
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        self.due = match self.take() {
            Ok(true) => None,
            Ok(false) => Some(now + AGAIN),
            Err(error) => {
                tracing::debug!(path = %self.path.display(), %error, "no room was set apart");
                Some(now + AGAIN)
            }
        };
    }

    /// Gives the room up. Answers whether there was any.
    pub(super) fn give_up(&mut self) -> bool {
        self.due = Some(Instant::now() + AGAIN);
        match fs::remove_file(&self.path) {
            Ok(()) => {
                tracing::warn!("the disk is full: what was set apart for ending workloads is used now");
                true
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "what was set apart can't be given up");
                false
            }
        }
    }

    fn take(&self) -> io::Result<bool> {
        if fs::metadata(&self.path).is_ok_and(|metadata| metadata.len() == LEN) {
            return Ok(true);
        }
        let directory = self.path.parent().unwrap_or(&self.path);
        let stat = statvfs(directory)?;
        if stat.blocks_available().saturating_mul(stat.fragment_size()) < LEN * FREE_MIN {
            return Ok(false);
        }
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&self.path)?;
        let taken = fallocate(&file, FallocateFlags::empty(), 0, LEN as i64);
        if taken.is_err() {
            // A file system that can't set room apart, or has none after all.
            fs::remove_file(&self.path)?;
        }
        Ok(taken.map(|()| true)?)
    }
}

/// Whether a command can make room, or at least takes next to none.
pub(super) const fn may_use(command: &Command) -> bool {
    !matches!(command, Command::CreateWorkload { .. } | Command::CreateToken { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_given_up_once_and_not_taken_again_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ballast");
        let mut ballast = Ballast::new(path.clone());
        assert!(!ballast.give_up(), "there is none yet");
        ballast.due = Some(Instant::now());
        ballast.renew();
        assert_eq!(fs::metadata(&path).unwrap().len(), LEN);
        assert!(ballast.give_up() && !path.exists());
        assert!(!ballast.give_up());
        ballast.renew();
        assert!(!path.exists(), "whoever needed it would find none");
    }
}
