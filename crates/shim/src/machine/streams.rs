//! The standard streams that a stand-in relays: those it was started with, or a terminal whose other end the shim gets.

use std::{
    fs::File,
    io::{self, IoSlice},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
};

use hypercore_wire::message::Size;
use nix::{
    libc,
    pty::openpty,
    sys::{
        socket::{ControlMessage, MsgFlags, sendmsg},
        termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr},
    },
    unistd::setsid,
};

/// Where bytes come from and go to.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) stdin: File,
    pub(super) stdout: File,
    pub(super) stderr: File,
    /// Its size is the size of the terminal in the guest.
    pub(super) terminal: Option<File>,
}

impl Streams {
    /// Our own, or a new terminal, whose master goes to the shim.
    pub(super) fn open(console_socket: Option<&Path>) -> io::Result<Self> {
        match console_socket {
            Some(path) => Self::of_terminal(path),
            None => Ok(Self {
                stdin: duplicate(io::stdin())?,
                stdout: duplicate(io::stdout())?,
                stderr: duplicate(io::stderr())?,
                terminal: None,
            }),
        }
    }

    /// The guest's terminal does everything that terminals do. Ours only carries bytes, and tells us its size.
    fn of_terminal(console_socket: &Path) -> io::Result<Self> {
        let pair = openpty(None, None)?;
        let mut mode = tcgetattr(&pair.slave)?;
        cfmakeraw(&mut mode);
        tcsetattr(&pair.slave, SetArg::TCSANOW, &mode)?;
        // It becomes our controlling terminal, so that a change of size comes as SIGWINCH.
        setsid()?;
        #[allow(unsafe_code, reason = "a controlling terminal is taken by ioctl alone")]
        // SAFETY: TIOCSCTTY takes a plain number.
        if unsafe { libc::ioctl(pair.slave.as_raw_fd(), libc::TIOCSCTTY, 0) } < 0 {
            return Err(io::Error::last_os_error());
        }
        send_master(console_socket, &pair.master)?;
        let slave = File::from(pair.slave);
        let stdout = slave.try_clone()?;
        let stderr = slave.try_clone()?;
        Ok(Self { stdin: slave.try_clone()?, stdout, stderr, terminal: Some(slave) })
    }
}

/// The size of a terminal, if it has one.
#[allow(unsafe_code, reason = "a terminal tells its size by ioctl alone")]
pub(super) fn size(terminal: &File) -> Option<Size> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize, which is ours.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (result == 0 && size.ws_row > 0).then_some(Size { rows: size.ws_row, columns: size.ws_col })
}

fn duplicate(fd: impl AsFd) -> io::Result<File> {
    Ok(File::from(fd.as_fd().try_clone_to_owned()?))
}

/// runc's console socket protocol: one message with one descriptor.
fn send_master(path: &Path, master: &OwnedFd) -> io::Result<()> {
    let socket = UnixStream::connect(path)?;
    let descriptors = [master.as_raw_fd()];
    let control = [ControlMessage::ScmRights(&descriptors)];
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(b"terminal")], &control, MsgFlags::empty(), None)?;
    Ok(())
}
