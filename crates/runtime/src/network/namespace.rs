//! Network namespaces: made by a thread that lives only for it, kept alive by a file they are bind-mounted on.
//! It refuses to leave the caller's own thread in another namespace.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    sys::statfs::{NSFS_MAGIC, statfs},
};
use tokio::sync::oneshot;

/// The calling thread's own network namespace.
const OWN: &str = "/proc/thread-self/ns/net";

/// Settings of a fresh namespace, as docker's users know them: any port and ping without privileges, and no routes
/// learnt from ICMP redirects.
const SETTINGS: [(&str, &str); 4] = [
    ("net/ipv4/ip_unprivileged_port_start", "0"),
    ("net/ipv4/ping_group_range", "0 2147483647"),
    ("net/ipv4/conf/all/accept_redirects", "0"),
    ("net/ipv4/conf/default/accept_redirects", "0"),
];

/// With IPv6, links that come in later get no address but the one they are given (1 is `IN6_ADDR_GEN_MODE_NONE`), and
/// learn nothing from routers.
const SETTINGS_WITH_IPV6: [(&str, &str); 2] =
    [("net/ipv6/conf/default/addr_gen_mode", "1"), ("net/ipv6/conf/default/accept_ra", "0")];

/// Without, they have none at all.
const SETTINGS_WITHOUT_IPV6: [(&str, &str); 1] = [("net/ipv6/conf/default/disable_ipv6", "1")];

/// Which step of making or removing a namespace failed.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// No thread could be started.
    #[error("can't start a thread")]
    Thread(#[source] io::Error),
    /// The thread ended without a result.
    #[error("the thread that was to do the work panicked")]
    Panicked,
    /// The kernel refuses a new namespace.
    #[error("can't make a network namespace")]
    Unshare(#[source] io::Error),
    /// The file of the namespace can't be made or opened.
    #[error("can't make or open {path}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The namespace can't be mounted on its file.
    #[error("can't mount the network namespace on {path}")]
    Mount {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An existing namespace can't be entered.
    #[error("can't enter the network namespace {path}")]
    Enter {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The namespace can't be unmounted or its file removed.
    #[error("can't remove {path}")]
    Remove {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A kernel setting can't be written.
    #[error("can't set {path}")]
    Setting {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Starts `work` on an OS thread of its own, which may change its namespaces. The result can be waited for; the work is
/// done in any case.
pub(super) fn on_own_thread<T, E>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> impl Future<Output = Result<T, E>> + Send
where
    T: Send + 'static,
    E: From<NamespaceError> + Send + 'static,
{
    let (sender, receiver) = oneshot::channel();
    // A receiver that is gone means that nobody waits for the result any more.
    let run = move || drop(sender.send(work()));
    let started = std::thread::Builder::new().name("network".to_owned()).spawn(run);
    async move {
        started.map_err(|source| E::from(NamespaceError::Thread(source)))?;
        receiver.await.map_err(|_| E::from(NamespaceError::Panicked))?
    }
}

/// Moves the calling thread into a new namespace and keeps that alive as the file `path`, replacing what a crash left
/// there. Call it only within [`on_own_thread`]. Returns the namespace.
pub(super) fn enter_new(path: &Path, has_ipv6: bool) -> Result<File, NamespaceError> {
    remove(path)?;
    let file_error = |source| NamespaceError::File { path: path.to_owned(), source };
    File::create_new(path).map_err(file_error)?;
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| NamespaceError::Unshare(errno.into()))?;
    mount(Some(OWN), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(|errno| NamespaceError::Mount { path: path.to_owned(), source: errno.into() })?;
    let of_ipv6: &[(&str, &str)] = if has_ipv6 { &SETTINGS_WITH_IPV6 } else { &SETTINGS_WITHOUT_IPV6 };
    for (setting, value) in SETTINGS.iter().chain(of_ipv6) {
        set(setting, value)?;
    }
    File::open(path).map_err(file_error)
}

/// Moves the calling thread into an existing namespace. Call it only within [`on_own_thread`].
pub(super) fn enter(path: &Path) -> Result<(), NamespaceError> {
    let file = File::open(path).map_err(|source| NamespaceError::File { path: path.to_owned(), source })?;
    setns(file, CloneFlags::CLONE_NEWNET)
        .map_err(|errno| NamespaceError::Enter { path: path.to_owned(), source: errno.into() })
}

/// Whether a namespace is mounted on the file.
pub(super) fn is_alive(path: &Path) -> bool {
    statfs(path).is_ok_and(|stat| stat.filesystem_type() == NSFS_MAGIC)
}

/// Unmounts a namespace and removes its file. What doesn't exist is fine. Processes inside keep it, without a name.
pub(super) fn remove(path: &Path) -> Result<(), NamespaceError> {
    let wrap = |source| NamespaceError::Remove { path: path.to_owned(), source };
    match umount2(path, MntFlags::MNT_DETACH) {
        // EINVAL: a plain file, from a crash before the mount or a reboot.
        Ok(()) | Err(Errno::ENOENT | Errno::EINVAL) => {}
        Err(errno) => return Err(wrap(errno.into())),
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(wrap(error)),
        _ => Ok(()),
    }
}

/// Writes a kernel setting of the calling thread's namespace. One that this kernel doesn't have is fine: then what it
/// would switch off isn't there either.
pub(super) fn set(setting: &str, value: &str) -> Result<(), NamespaceError> {
    let path = Path::new("/proc/sys").join(setting);
    match fs::write(&path, value) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(NamespaceError::Setting { path, source })
        }
        _ => Ok(()),
    }
}
