//! One process of the workload, from what was asked for to a command that can be started. It refuses to look anything
//! up after the fork: by then only plain system calls are allowed.

use std::{
    ffi::{CStr, CString},
    fs::File,
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::{fs::OpenOptionsExt, process::CommandExt},
    },
    path::Path,
    process::{Command, Stdio},
};

use hypercore_model::user::User;
use hypercore_wire::{
    ErrorCode,
    message::{Exec, Fault, Size},
};
use nix::pty::Winsize;

use crate::{
    account,
    cgroup::{self, Entrance},
    root::ROOT,
};

/// Where programs are looked for when the workload doesn't say (docker's own default).
const PATH_DEFAULT: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The workload's first process: what the others take from it when they don't say themselves, and where they belong.
#[derive(Debug)]
pub(crate) struct First {
    env: Vec<String>,
    cwd: Option<String>,
    user: Option<String>,
    /// Its mounts. None when it ended before anybody could look: then nothing can be executed any more.
    mounts: Option<File>,
    /// Its root, with what is mounted there.
    root: Option<File>,
}

impl First {
    /// The first process, which has just become its program.
    pub(crate) fn of(exec: &Exec, pid: u32) -> Self {
        let mounts = File::open(format!("/proc/{pid}/ns/mnt")).ok();
        let root = File::options()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
            .open(format!("/proc/{pid}/root"))
            .ok();
        Self { env: exec.env.clone(), cwd: exec.cwd.clone(), user: exec.user.clone(), mounts, root }
    }

    /// Where the workload's files are.
    pub(crate) fn root(&self) -> Option<OwnedFd> {
        self.root.as_ref().and_then(|root| root.try_clone().ok()).map(OwnedFd::from)
    }
}

/// Our ends of a process's streams. With a terminal all three are its master.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
    pub(crate) terminal: Option<OwnedFd>,
}

/// Puts a command together: the workload's first process, or one that joins it.
pub(crate) fn command(exec: &Exec, first: Option<&First>) -> Result<(Command, Ends), Fault> {
    let Some(program) = exec.argv.first() else {
        return Err(Fault::new(ErrorCode::COMMAND_NOT_FOUND, "no command was given"));
    };
    let request =
        exec.user.as_ref().or(first.and_then(|first| first.user.as_ref())).map_or("", String::as_str);
    let user =
        account::find(request).map_err(|error| Fault::new(ErrorCode::NO_SUCH_USER, error.to_string()))?;
    let mut command = Command::new(program);
    command.args(&exec.argv[1..]).env_clear();
    let home = format!("HOME={}", user.home);
    let inherited = first.map_or(&[][..], |first| &first.env);
    for pair in [PATH_DEFAULT, &home].into_iter().chain(inherited.iter().chain(&exec.env).map(String::as_str))
    {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        command.env(key, value);
    }
    let ends =
        if exec.tty { with_terminal(&mut command, exec.size) } else { with_pipes(&mut command, exec.stdin) };
    let ends = ends.map_err(|error| Fault::new(ErrorCode::ENGINE, format!("its streams: {error}")))?;
    let cwd = exec.cwd.as_ref().or(first.and_then(|first| first.cwd.as_ref())).map_or("/", String::as_str);
    let place = match first {
        None => Place::New,
        Some(first) => Place::Mounts(first.mounts.as_ref().and_then(|mounts| mounts.try_clone().ok())),
    };
    let group = cgroup::entrance();
    let group =
        group.map_err(|error| Fault::new(ErrorCode::ENGINE, format!("its control group: {error}")))?;
    enter(&mut command, place, group, cwd, &user, exec.tty)?;
    Ok((command, ends))
}

/// What a failed start means to the host.
pub(crate) fn start_fault(program: &str, error: &io::Error) -> Fault {
    let code = match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => ErrorCode::COMMAND_NOT_FOUND,
        Some(libc::EACCES | libc::ENOEXEC | libc::EISDIR) => ErrorCode::NOT_EXECUTABLE,
        _ => ErrorCode::ENGINE,
    };
    let shown = program.escape_debug();
    Fault::new(code, format!("`{shown}` can't be started: {error}"))
}

fn with_pipes(command: &mut Command, wants_input: bool) -> io::Result<Ends> {
    let mut ends = Ends::default();
    let (read, write) = io::pipe()?;
    command.stdout(write);
    ends.stdout = Some(read.into());
    let (read, write) = io::pipe()?;
    command.stderr(write);
    ends.stderr = Some(read.into());
    if wants_input {
        let (read, write) = io::pipe()?;
        command.stdin(read);
        ends.stdin = Some(write.into());
    } else {
        command.stdin(Stdio::null());
    }
    Ok(ends)
}

fn with_terminal(command: &mut Command, size: Option<Size>) -> io::Result<Ends> {
    let (master, slave) = open_terminal(size)?;
    command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
    Ok(Ends {
        stdin: Some(master.try_clone()?),
        stdout: Some(master.try_clone()?),
        stderr: None,
        terminal: Some(master),
    })
}

/// A terminal of the workload's own, whose name means something to it; openpty(3) knows of no other than the agent's.
#[allow(unsafe_code, reason = "a terminal's other end is unlocked and opened by ioctl alone")]
fn open_terminal(size: Option<Size>) -> io::Result<(OwnedFd, OwnedFd)> {
    let path = Path::new(ROOT).join("dev/pts/ptmx");
    let master = File::options().read(true).write(true).custom_flags(libc::O_NOCTTY).open(path)?;
    let (unlocked, fd): (libc::c_int, _) = (0, master.as_raw_fd());
    // SAFETY: TIOCSPTLCK reads one int, which is ours.
    check(unsafe { libc::ioctl(fd, libc::TIOCSPTLCK, &raw const unlocked) })?;
    if let Some(size) = size.map(window_size) {
        // SAFETY: TIOCSWINSZ reads one `winsize`, which is ours.
        check(unsafe { libc::ioctl(fd, libc::TIOCSWINSZ, &raw const size) })?;
    }
    // SAFETY: TIOCGPTPEER takes flags by value.
    let slave =
        unsafe { libc::ioctl(fd, libc::TIOCGPTPEER, libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC) };
    check(slave)?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok((master.into(), unsafe { OwnedFd::from_raw_fd(slave) }))
}

/// A size as the kernel takes it.
pub(crate) const fn window_size(size: Size) -> Winsize {
    Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 }
}

/// Where a process is put.
enum Place {
    /// Into mounts of its own, with the workload's root as their root.
    New,
    /// Into the mounts of the first process, if they are still known.
    Mounts(Option<File>),
}

/// Has the new process enter the workload's root, directory and identity before its program.
#[allow(unsafe_code, reason = "between fork and exec nothing but our own system calls can do this")]
fn enter(
    command: &mut Command,
    place: Place,
    group: Option<Entrance>,
    cwd: &str,
    user: &User,
    has_terminal: bool,
) -> Result<(), Fault> {
    let text = |text: &str| {
        CString::new(text)
            .map_err(|_| Fault::new(ErrorCode::ENGINE, "a path with a NUL byte can't be entered"))
    };
    let (root, cwd) = (text(ROOT)?, text(cwd)?);
    let groups: Vec<libc::gid_t> = user.supplementary_gids.clone();
    let (uid, gid) = (user.uid, user.gid);
    // SAFETY: the closure makes system calls alone, on memory that was allocated before the fork; none of them
    // allocates, takes a lock or touches what other threads may hold.
    unsafe {
        command.pre_exec(move || {
            if let Some(group) = &group {
                join(group)?;
            }
            check(libc::setsid())?;
            if has_terminal {
                check(libc::ioctl(0, libc::TIOCSCTTY, 0))?;
            }
            match &place {
                Place::New => found(&root)?,
                Place::Mounts(Some(mounts)) => check(libc::setns(mounts.as_raw_fd(), libc::CLONE_NEWNS))?,
                Place::Mounts(None) => return Err(io::Error::from_raw_os_error(libc::ESRCH)),
            }
            if libc::chdir(cwd.as_ptr()) != 0 {
                // docker makes a working directory that is missing.
                check(libc::mkdir(cwd.as_ptr(), 0o755))?;
                check(libc::chdir(cwd.as_ptr()))?;
            }
            check(libc::setgroups(groups.len(), groups.as_ptr()))?;
            check(libc::setresgid(gid, gid, gid))?;
            check(libc::setresuid(uid, uid, uid))?;
            check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
            Ok(())
        });
    }
    Ok(())
}

/// Puts this process into a control group; when that is limited, hides from it that there is anything above.
#[allow(unsafe_code, reason = "between fork and exec nothing but our own system calls can do this")]
fn join(group: &Entrance) -> io::Result<()> {
    // SAFETY: plain system calls, on a constant text; 0 stands for whoever writes it.
    unsafe {
        if libc::write(group.file.as_raw_fd(), c"0".as_ptr().cast(), 1) != 1 {
            return Err(io::Error::last_os_error());
        }
        if group.is_limited { check(libc::unshare(libc::CLONE_NEWCGROUP)) } else { Ok(()) }
    }
}

/// Makes the workload's root the root of a mount namespace, as switch_root(8) does: moved over the initramfs, which
/// can't be pivoted away from, it is one that programs like container engines can pivot. With a view of processes that
/// shows this pid namespace and no other.
///
/// # Safety
/// Only between fork and exec: it changes what every path of this process means.
#[allow(unsafe_code, reason = "between fork and exec nothing but our own system calls can do this")]
unsafe fn found(root: &CStr) -> io::Result<()> {
    let (none, here, proc) = (std::ptr::null(), c".".as_ptr(), c"proc".as_ptr());
    let quiet = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    // SAFETY: system calls on constant texts and on `root`, which lives through the call.
    unsafe {
        check(libc::unshare(libc::CLONE_NEWNS))?;
        check(libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast()))?;
        check(libc::chdir(root.as_ptr()))?;
        check(libc::mount(here, c"/".as_ptr(), none, libc::MS_MOVE, none.cast()))?;
        check(libc::chroot(here))?;
        check(libc::mount(proc, c"/proc".as_ptr(), proc, quiet, none.cast()))
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
