//! Connecting to a shim's socket, however long its path is.
//! It refuses to listen: that is the shim's.

use std::{
    fs::File,
    io,
    os::{fd::AsRawFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

use tokio::net::UnixStream;

/// Longest path that fits into a Unix socket's address, in bytes (unix(7): 108 with the terminating NUL).
const PATH_LEN_MAX: usize = 107;

/// Connects to the socket at `path`.
pub(super) async fn connect(path: &Path) -> io::Result<UnixStream> {
    if path.as_os_str().as_bytes().len() <= PATH_LEN_MAX {
        return UnixStream::connect(path).await;
    }
    // A descriptor of the directory gives a long path a short name.
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    let directory = File::open(path.parent().ok_or_else(invalid)?)?;
    let name = path.file_name().ok_or_else(invalid)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
    UnixStream::connect(short).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_long_path_can_be_connected_to() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("d".repeat(120));
        std::fs::create_dir(&directory).unwrap();
        let handle = File::open(&directory).unwrap();
        let short = PathBuf::from(format!("/proc/self/fd/{}/s", handle.as_raw_fd()));
        let listener = tokio::net::UnixListener::bind(short).unwrap();
        let path = directory.join("s");
        let (connected, accepted) = tokio::join!(connect(&path), listener.accept());
        assert!(connected.is_ok() && accepted.is_ok());
    }
}
