//! One stream of a process's output on its way to the host, as fast as the host takes it. When the process ends while
//! something it left behind holds the stream open, what it wrote itself is still sent, and no more.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, AsRawFd},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use hypercore_wire::{Credit, credit::CreditError};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::reaper::Ending;

/// Bytes read at once.
const READ_LEN_MAX: usize = 16 * 1024;
/// How long a terminal must be quiet after its process ended to count as read, in milliseconds: its bytes pass through
/// a queue of the kernel, so that there is no telling how many are still to come.
const TERMINAL_QUIET_MS: u16 = 100;

/// What may be sent, of all streams of one execution together.
#[derive(Debug)]
pub(crate) struct Allowance {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
enum State {
    /// As much as the host said.
    Credit(Credit),
    /// Everything.
    Unlimited,
    /// The host is gone: what comes is read and dropped, so that the process isn't stopped by a full pipe.
    Abandoned,
}

impl Allowance {
    /// Nothing, until the host allows it.
    pub(crate) fn by_credit() -> Self {
        Self { state: Mutex::new(State::Credit(Credit::default())), changed: Condvar::new() }
    }

    /// Everything, at once.
    pub(crate) fn unlimited() -> Self {
        Self { state: Mutex::new(State::Unlimited), changed: Condvar::new() }
    }

    /// Allows more.
    pub(crate) fn grant(&self, bytes: u32) -> Result<(), CreditError> {
        let granted = match &mut *self.lock() {
            State::Credit(credit) => credit.grant(bytes),
            State::Unlimited | State::Abandoned => Ok(()),
        };
        self.changed.notify_all();
        granted
    }

    /// Nothing again, until another host allows it.
    pub(crate) fn renew(&self) {
        *self.lock() = State::Credit(Credit::default());
    }

    /// Nobody takes anything any more.
    pub(crate) fn abandon(&self) {
        *self.lock() = State::Abandoned;
        self.changed.notify_all();
    }

    /// Waits until something may be sent, and says how much; `None` when nobody takes it any more.
    pub(crate) fn wait(&self) -> Option<usize> {
        let is_stuck = |state: &mut State| matches!(state, State::Credit(credit) if credit.available() == 0);
        let state = self.changed.wait_while(self.lock(), is_stuck).unwrap_or_else(PoisonError::into_inner);
        match &*state {
            State::Credit(credit) => Some(credit.available()),
            State::Unlimited => Some(READ_LEN_MAX),
            State::Abandoned => None,
        }
    }

    /// Both streams of an execution wait for the same credit: what the other one has taken meanwhile, the host gets on
    /// top. It is ready to hold more than it grants at once.
    pub(crate) fn spend(&self, len: usize) {
        if let State::Credit(credit) = &mut *self.lock() {
            let len = len.min(credit.available());
            credit.spend(len).expect("no more than there is");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of a piece of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// It was taken.
    Done,
    /// Nobody takes anything any more.
    Gone,
    /// It was not, and another host takes it now, by credit of its own.
    Moved,
}

/// Reads an output to its end. `send` gets each piece, until it says that nobody takes any more.
pub(crate) fn pump(
    output: File,
    is_terminal: bool,
    ending: &Arc<Ending>,
    allowance: &Allowance,
    mut send: impl FnMut(&[u8]) -> Delivery,
) {
    let mut pump = Pump { output, is_terminal, left: None };
    let mut buffer = vec![0; READ_LEN_MAX];
    // Room is asked for when there is something to send, so that a quiet process ends without any.
    while pump.has_more(ending).unwrap_or(false) {
        let room = allowance.wait();
        let len_max = room.unwrap_or(READ_LEN_MAX).min(READ_LEN_MAX);
        match pump.read(&mut buffer[..len_max]) {
            Ok(0) | Err(_) => return,
            Ok(len) => deliver(&buffer[..len], allowance, &mut send),
        }
    }
}

/// Sends what was read, to whoever takes it, as it is allowed.
fn deliver(mut rest: &[u8], allowance: &Allowance, send: &mut impl FnMut(&[u8]) -> Delivery) {
    while !rest.is_empty() {
        let Some(room) = allowance.wait() else { return };
        let (piece, later) = rest.split_at(room.min(rest.len()));
        allowance.spend(piece.len());
        match send(piece) {
            Delivery::Done => rest = later,
            Delivery::Gone => return allowance.abandon(),
            Delivery::Moved => {}
        }
    }
}

/// What a wait came to.
enum Readiness {
    Readable,
    Closed,
    ProcessEnded,
}

struct Pump {
    output: File,
    is_terminal: bool,
    /// How many bytes were left when the process had ended; all that come, of a terminal.
    left: Option<usize>,
}

impl Pump {
    /// Waits until there is something to read. `false` when nothing more will come.
    fn has_more(&mut self, ending: &Arc<Ending>) -> io::Result<bool> {
        if self.left.is_none() {
            match self.wait(ending)? {
                Readiness::Readable => return Ok(true),
                Readiness::Closed => return Ok(false),
                // What lies in the pipe is its own.
                Readiness::ProcessEnded => {
                    self.left = Some(if self.is_terminal { usize::MAX } else { self.waiting()? });
                }
            }
        }
        match self.left {
            Some(left) if !self.is_terminal => Ok(left > 0),
            _ => self.is_readable(TERMINAL_QUIET_MS),
        }
    }

    /// Reads; 0 is the end.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len_max = self.left.map_or(buffer.len(), |left| left.min(buffer.len()));
        loop {
            match self.output.read(&mut buffer[..len_max]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Of a terminal, that its last user is gone.
                Err(error) => return Err(error),
                Ok(len) => {
                    self.left = self.left.map(|left| left - len);
                    return Ok(len);
                }
            }
        }
    }

    /// Waits for output, or for the end of the process.
    fn wait(&self, ending: &Arc<Ending>) -> io::Result<Readiness> {
        let ended = ending.as_fd();
        let mut fds =
            [PollFd::new(self.output.as_fd(), PollFlags::POLLIN), PollFd::new(ended, PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::NONE)?;
        let [output, ended] = fds.map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
        Ok(match (ended.is_empty(), output.contains(PollFlags::POLLIN)) {
            (false, _) => Readiness::ProcessEnded,
            (true, true) => Readiness::Readable,
            // Everybody who could write has closed it.
            (true, false) => Readiness::Closed,
        })
    }

    /// Whether something comes in time. A hang-up without content is none.
    fn is_readable(&self, timeout_ms: u16) -> io::Result<bool> {
        let mut fds = [PollFd::new(self.output.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::from(timeout_ms))?;
        Ok(fds[0].revents().is_some_and(|revents| revents.contains(PollFlags::POLLIN)))
    }

    /// How many bytes lie in the pipe.
    #[allow(unsafe_code, reason = "the length of a pipe's content is known by ioctl alone")]
    fn waiting(&self) -> io::Result<usize> {
        let mut len: libc::c_int = 0;
        // SAFETY: FIONREAD writes one int, which is ours.
        let result = unsafe { libc::ioctl(self.output.as_raw_fd(), libc::FIONREAD, &raw mut len) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(usize::try_from(len).unwrap_or(0)) }
    }
}
