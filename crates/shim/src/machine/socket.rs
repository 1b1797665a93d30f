//! Unix sockets of a machine's monitor, connected to with a deadline, at paths of any length. A monitor that was taken
//! over owns the directory of its sockets: a link that it put there is not followed. Who accepts nobody isn't waited for.

use std::{
    fs::File,
    io,
    os::{
        fd::AsRawFd,
        unix::{fs::OpenOptionsExt, net::UnixStream},
    },
    path::Path,
    time::Instant,
};

use nix::{
    libc,
    sys::{
        socket::{
            AddressFamily, SockFlag, SockType, UnixAddr, connect as connect_to, setsockopt, socket, sockopt,
        },
        time::{TimeVal, TimeValLike},
    },
};

/// Connects to the socket at `path`.
///
/// # Errors
/// What the kernel says; [`io::ErrorKind::WouldBlock`] or [`io::ErrorKind::TimedOut`] when the deadline passed.
pub(super) fn connect(path: &Path, deadline: Instant) -> io::Result<UnixStream> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let flags = libc::O_PATH | libc::O_NOFOLLOW;
    let place = File::options().read(true).custom_flags(flags).open(path)?;
    // Of a link, this is the link itself, which is no socket. An address has room for 108 bytes, and this is short.
    let address = UnixAddr::new(format!("/proc/self/fd/{}", place.as_raw_fd()).as_str())?;
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let left = i64::try_from(left.as_micros()).unwrap_or(i64::MAX);
    // It is what bounds a connect, too: to a server whose backlog is full.
    setsockopt(&socket, sockopt::SendTimeout, &TimeVal::microseconds(left))?;
    connect_to(socket.as_raw_fd(), &address)?;
    Ok(UnixStream::from(socket))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::net::UnixListener, time::Duration};

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(100)
    }

    #[test]
    fn a_long_path_is_no_obstacle_and_a_link_is_one() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().join("d".repeat(120));
        fs::create_dir(&directory).unwrap();
        let near = scratch.path().join("s");
        let _listener = UnixListener::bind(&near).unwrap();
        fs::rename(&near, directory.join("s")).unwrap();
        connect(&directory.join("s"), soon()).unwrap();
        std::os::unix::fs::symlink("s", directory.join("link")).unwrap();
        assert!(connect(&directory.join("link"), soon()).is_err(), "a link was followed");
        let missing = connect(&directory.join("none"), soon()).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_server_that_accepts_nobody_is_not_waited_for() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(1).unwrap()).unwrap();
        let mut held = Vec::new();
        let error = loop {
            match connect(&path, soon()) {
                Ok(stream) => held.push(stream),
                Err(error) => break error,
            }
            assert!(held.len() < 10, "the backlog is bounded");
        };
        assert!(matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{error}");
        assert!(connect(&path, Instant::now()).is_err());
    }
}
