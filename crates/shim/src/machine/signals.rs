//! Signals on their way through a stand-in. All that can be are blocked before the first thread begins, and taken by
//! one thread that passes them on; SIGKILL needs no passing on, because a stand-in's death is its process's.

use std::{io, thread};

use nix::{
    libc,
    sys::signal::{
        SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, raise, sigaction, sigprocmask,
    },
};

/// What a stand-in doesn't pass on: its own faults, and its own children.
const OWN: [Signal; 7] = [
    Signal::SIGCHLD,
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGILL,
    Signal::SIGFPE,
    Signal::SIGABRT,
    Signal::SIGTRAP,
];

/// The blocked signals.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signals(SigSet);

impl Signals {
    /// Blocks them for this thread and those it will start.
    pub(super) fn block() -> io::Result<Self> {
        let mut set = SigSet::all();
        for signal in OWN {
            set.remove(signal);
        }
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&set), None)?;
        Ok(Self(set))
    }

    /// Passes each that comes to `pass_on`, on a thread of its own.
    pub(super) fn forward(self, mut pass_on: impl FnMut(Signal) + Send + 'static) {
        thread::spawn(move || {
            loop {
                if let Ok(signal) = self.0.wait() {
                    pass_on(signal);
                }
            }
        });
    }
}

/// Ends this process as another one was ended: by the same signal. It returns when the signal doesn't end processes.
pub(super) fn end_by(number: u8) {
    let Ok(signal) = Signal::try_from(i32::from(number)) else { return };
    // A core of a stand-in would be of no use to anybody.
    let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0);
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    #[allow(unsafe_code, reason = "signal actions are process-wide")]
    // SAFETY: the default action runs no code of this process.
    let _ = unsafe { sigaction(signal, &default) };
    let mut only = SigSet::empty();
    only.add(signal);
    let _ = raise(signal);
    let _ = sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&only), None);
    if number == libc::SIGKILL as u8 {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), Signal::SIGKILL);
    }
}
