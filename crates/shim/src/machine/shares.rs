//! Directories of the host that the machine sees, each served by a virtiofsd of its own: a child of the monitor, in the
//! workload's cgroup, in a mount namespace where it has that directory alone. It refuses to trust the guest with what
//! may only be read: the kernel of the host holds that, not the server.

use std::{
    ffi::CString,
    fs, io,
    os::{
        fd::AsRawFd,
        unix::{ffi::OsStrExt, net::UnixListener, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
};

use hypercore_model::machine::{MachineShare, MachineSpec};
use nix::{
    errno::Errno,
    libc,
    sys::{
        prctl,
        signal::Signal,
        wait::{Id, WaitPidFlag, waitid},
    },
    unistd::Pid,
};

/// `struct mount_attr` (linux/mount.h).
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    namespace: u64,
}

const RDONLY: u64 = 0x1;
const NOSUID: u64 = 0x2;
const NODEV: u64 = 0x4;

/// Why a directory can't be served.
#[derive(Debug, thiserror::Error)]
#[error("the host directory {} can't be served to the machine", directory.display())]
pub(super) struct ShareError {
    directory: PathBuf,
    #[source]
    source: io::Error,
}

/// The servers of one machine, ended when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Shares(Vec<Child>);

/// Where the machine finds the server of a share.
pub(super) fn socket(place: &Path, tag: &str) -> PathBuf {
    place.join(format!("{tag}.sock"))
}

impl Shares {
    /// Starts a server for each directory, in the machine's own directory `place`. Their sockets are there when this
    /// returns, so that the machine need not wait.
    pub(super) fn serve(spec: &MachineSpec, place: &Path) -> Result<Self, ShareError> {
        let mut shares = Self::default();
        for share in &spec.shares {
            let started = serve(share, place);
            let failed = |source| ShareError { directory: share.directory.clone(), source };
            shares.0.push(started.map_err(failed)?);
        }
        Ok(shares)
    }

    /// Has `tell` called when a server has ended: what waits for it in the guest would wait for good.
    pub(super) fn watch(&self, tell: impl Fn() + Clone + Send + 'static) {
        for server in &self.0 {
            let (pid, tell) = (Pid::from_raw(server.id().cast_signed()), tell.clone());
            thread::spawn(move || {
                // It is left to be reaped by who asks how it ended.
                let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
                while waitid(Id::Pid(pid), flags) == Err(Errno::EINTR) {}
                tell();
            });
        }
    }

    /// How a server ended that should still run: what explains why a machine did not come up.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.0.iter_mut().find_map(|server| server.try_wait().ok().flatten())
    }
}

impl Drop for Shares {
    fn drop(&mut self) {
        for server in &mut self.0 {
            // One that served a machine ends by itself when that is gone.
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

#[allow(unsafe_code, reason = "what a child does between fork and exec can't be said safely")]
fn serve(share: &MachineShare, place: &Path) -> io::Result<Child> {
    // Its name has nothing in it that an option could be told by.
    let shown = place.join(&share.tag);
    fs::create_dir_all(&shown)?;
    let listener = UnixListener::bind(socket(place, &share.tag))?;
    let fd = listener.as_raw_fd();
    let (source, target) = (c_path(&share.directory)?, c_path(&shown)?);
    let set = NOSUID | NODEV | if share.read_only { RDONLY } else { 0 };
    let mut command = Command::new(&share.program);
    command.arg(format!("--fd={fd}")).arg("-o").arg(options(&shown));
    command.env_clear().current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let parent = nix::unistd::getpid();
    // SAFETY: what runs in the child are plain system calls, which allocate nothing and take no lock; everything that
    // they point to was made before, and lives in this frame until the child has been started.
    unsafe {
        command.pre_exec(move || {
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            nix::sys::signal::SigSet::empty().thread_set_mask()?;
            if nix::unistd::getppid() != parent {
                return Err(io::ErrorKind::NotFound.into());
            }
            check(libc::fcntl(fd, libc::F_SETFD, 0).into())?;
            show(&source, &target, set)
        });
    }
    command.spawn()
}

/// What virtiofsd is told, in a form that the one of QEMU and its successor both know.
fn options(shown: &Path) -> std::ffi::OsString {
    let mut options = std::ffi::OsString::from("source=");
    options.push(shown);
    options.push(",sandbox=namespace,cache=auto");
    options
}

/// Puts the directory, with all that is mounted below it, at `target` of a mount namespace of this process's own.
#[allow(unsafe_code, reason = "mounts are changed by system calls, here in a child that must not allocate")]
fn show(source: &CString, target: &CString, set: u64) -> io::Result<()> {
    let attributes = MountAttributes { set, clear: 0, propagation: 0, namespace: 0 };
    let (none, root) = (std::ptr::null(), c"/".as_ptr());
    let (bind, private) = (libc::MS_BIND | libc::MS_REC, libc::MS_PRIVATE | libc::MS_REC);
    // SAFETY: all strings end with NUL and outlive the calls; `mount_setattr` reads one `mount_attr` of the given size.
    unsafe {
        check(libc::unshare(libc::CLONE_NEWNS).into())?;
        check(libc::mount(none, root, none, private, none.cast()).into())?;
        check(libc::mount(source.as_ptr(), target.as_ptr(), none, bind, none.cast()).into())?;
        check(libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            target.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<MountAttributes>(),
        ))
    }
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}
