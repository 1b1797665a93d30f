//! Listening sockets that outlive the agent: under systemd each is handed to its file descriptor store, and taken
//! over by the next start. Connections that come meanwhile wait in the socket's backlog, so a restart refuses none.
//!
//! ```text
//!   first start   bind --> FDSTORE=1 FDNAME=api --> systemd holds a copy
//!   next start    LISTEN_FDS=1 LISTEN_FDNAMES=api --> same name and address? take it over, else let it go and bind
//! ```
//!
//! Without systemd it just binds. It refuses to accept connections, and to serve a socket of another address because
//! it has the right name.

mod keep;

#[cfg(test)]
mod tests;

use std::{
    fs, io,
    net::{SocketAddr, TcpListener as StdTcpListener},
    os::{
        fd::AsFd as _,
        unix::{
            fs::{FileTypeExt as _, PermissionsExt as _},
            net::UnixListener as StdUnixListener,
        },
    },
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use listenfd::ListenFd;
use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixSocket};

use keep::Keeper;

/// Connections that may wait to be accepted. The kernel lowers it to `net.core.somaxconn`.
const BACKLOG_MAX: u32 = 4096;
/// Most sockets that are taken over; systemd hands over no more than the unit's `FileDescriptorStoreMax=`.
const SOCKETS_MAX: usize = 64;

/// Why there is no socket to listen on.
#[derive(Debug, thiserror::Error)]
#[error("{what} can't be listened on")]
pub struct ListenError {
    /// Which socket.
    pub what: String,
    /// Why not.
    #[source]
    pub source: io::Error,
}

/// The node's listening sockets: those of an earlier run that wait to be taken over, and where new ones are kept.
#[derive(Debug)]
pub struct Listeners {
    waiting: Mutex<Vec<Waiting>>,
    keeper: Keeper,
}

/// A socket of an earlier run.
#[derive(Debug)]
struct Waiting {
    name: String,
    socket: Socket,
}

#[derive(Debug)]
enum Socket {
    Tcp(StdTcpListener),
    Unix(StdUnixListener),
}

impl Listeners {
    /// Takes what systemd handed over, and remembers whether it keeps sockets. Call it once, before there are threads:
    /// it changes the process's environment, so that no child believes the sockets were meant for it.
    #[must_use]
    pub fn from_environment() -> Self {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let is_ours = std::env::var("LISTEN_PID").is_ok_and(|pid| pid == std::process::id().to_string());
        let count = std::env::var("LISTEN_FDS").ok().and_then(|count| count.parse::<usize>().ok());
        let waiting = match count {
            Some(count) if is_ours && count <= SOCKETS_MAX => take_over(&mut ListenFd::from_env(), &names),
            _ => Vec::new(),
        };
        Self { waiting: Mutex::new(waiting), keeper: Keeper::from_environment() }
    }

    /// Nothing to take over, and nobody who would keep anything: a node that isn't a service.
    #[must_use]
    pub fn unkept() -> Self {
        Self { waiting: Mutex::default(), keeper: Keeper::nobody() }
    }

    /// Whether sockets stay open when this process ends.
    #[must_use]
    pub const fn are_kept(&self) -> bool {
        self.keeper.is_somebody()
    }

    /// Listens at this address, on the socket of an earlier run if it had this name and address. `name` is unique
    /// among the node's sockets, of lower-case letters, digits and `-`.
    ///
    /// # Errors
    /// [`ListenError`] when the address can't be bound.
    pub fn tcp(&self, name: &str, address: SocketAddr) -> Result<TcpListener, ListenError> {
        let failed = |source| ListenError { what: format!("the address {address}"), source };
        let kept = self.take(name, |socket| match socket {
            Socket::Tcp(listener) if listener.local_addr().is_ok_and(|bound| bound == address) => {
                Ok(listener)
            }
            other => Err(other),
        });
        if let Some(listener) = kept {
            listener.set_nonblocking(true).map_err(failed)?;
            return TcpListener::from_std(listener).map_err(failed);
        }
        let listener = bind_tcp(address).map_err(failed)?;
        self.keeper.keep(name, listener.as_fd());
        Ok(listener)
    }

    /// Listens on the Unix socket at this path, which only its owner may open; on that of an earlier run if the path
    /// still leads to one. The caller has made sure that no other process serves it.
    ///
    /// # Errors
    /// [`ListenError`] when the path can't be bound.
    pub fn unix(&self, name: &str, path: &Path) -> Result<UnixListener, ListenError> {
        let failed = |source| ListenError { what: format!("the socket {}", path.display()), source };
        let is_there = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
        let kept = self.take(name, |socket| match socket {
            Socket::Unix(listener) if is_there && bound_path(&listener).as_deref() == Some(path) => {
                Ok(listener)
            }
            other => Err(other),
        });
        if let Some(listener) = kept {
            listener.set_nonblocking(true).map_err(failed)?;
            return UnixListener::from_std(listener).map_err(failed);
        }
        let listener = bind_unix(path).map_err(failed)?;
        self.keeper.keep(name, listener.as_fd());
        Ok(listener)
    }

    /// Closes the sockets of earlier runs that nobody asked for. Call it when everything listens.
    pub fn release_unused(&self) {
        for unused in self.lock().drain(..) {
            tracing::info!(
                name = unused.name,
                "closing a socket of an earlier run, which is not configured any more"
            );
            self.keeper.forget(&unused.name);
        }
    }

    /// The socket of this name, if `choose` finds it fitting. One that doesn't fit is closed, in the store too.
    fn take<T>(&self, name: &str, choose: impl Fn(Socket) -> Result<T, Socket>) -> Option<T> {
        let mut waiting = self.lock();
        let (of_this_name, others) = waiting.drain(..).partition::<Vec<_>, _>(|socket| socket.name == name);
        *waiting = others;
        let mut is_stale = false;
        let mut taken = None;
        for candidate in of_this_name {
            match choose(candidate.socket) {
                Ok(socket) if taken.is_none() => taken = Some(socket),
                _ => is_stale = true,
            }
        }
        if is_stale {
            self.keeper.forget(name);
        }
        taken
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Waiting>> {
        // A list that is complete between any two of its operations.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Descriptors that are not listening sockets of a kind known here are left alone.
fn take_over(handed: &mut ListenFd, names: &str) -> Vec<Waiting> {
    let mut waiting = Vec::new();
    for (index, name) in names.split(':').take(handed.len()).enumerate() {
        let unix = handed.take_unix_listener(index).ok().flatten().map(Socket::Unix);
        let socket = unix.or_else(|| handed.take_tcp_listener(index).ok().flatten().map(Socket::Tcp));
        waiting.extend(socket.map(|socket| Waiting { name: name.to_owned(), socket }));
    }
    waiting
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // The connections of an earlier run may still linger in the kernel.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG_MAX)
}

fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    socket.listen(BACKLOG_MAX)
}

fn bound_path(listener: &StdUnixListener) -> Option<PathBuf> {
    listener.local_addr().ok()?.as_pathname().map(Path::to_owned)
}
