//! Unix sockets at paths of any length, which only root may connect to, and which vanish with their owner.
//! It refuses to take a path from a listener that is alive: whoever binds has made sure of that.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use nix::sys::stat::{Mode, umask};

/// A listening socket and its file.
#[derive(Debug)]
pub(super) struct Listener {
    socket: UnixListener,
    path: PathBuf,
}

impl Listener {
    /// Listens at `path`, in place of whatever file is there.
    pub(super) fn bind(path: &Path) -> io::Result<Self> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        // A descriptor of the directory gives a path a short name: socket addresses have room for 107 bytes.
        let directory = File::open(path.parent().ok_or_else(invalid)?)?;
        let directory = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
        let name = path.file_name().ok_or_else(invalid)?;
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let inherited = umask(Mode::from_bits_truncate(0o177));
        let bound = UnixListener::bind(directory.join(name));
        umask(inherited);
        let socket = bound?;
        let listener = Self { socket, path: path.to_owned() };
        listener.socket.set_nonblocking(true)?;
        Ok(listener)
    }

    /// The next connection, non-blocking, or `None` when nobody waits.
    pub(super) fn accept(&self) -> io::Result<Option<UnixStream>> {
        match self.socket.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(true)?;
                Ok(Some(stream))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // If it can't be removed, the next to bind replaces it.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_socket_is_roots_alone_and_goes_with_its_owner() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("d".repeat(120));
        fs::create_dir(&directory).unwrap();
        let path = directory.join("s.sock");
        fs::write(&path, "left over").unwrap();
        let listener = Listener::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(listener.accept().unwrap().is_none());
        drop(listener);
        assert!(!path.exists());
    }
}
