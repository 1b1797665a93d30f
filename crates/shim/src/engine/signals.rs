//! Signals as a new program expects them: none ignored, none blocked. What the engine inherited from whoever started
//! the node (`nohup`, a service manager, the Rust runtime's SIGPIPE) must not show inside a container.
//! It refuses to set anything but the defaults.

#![allow(unsafe_code, reason = "the C library doesn't let the signals be reset that it keeps for itself")]

use nix::{
    libc,
    sys::signal::{SigSet, SigmaskHow, sigprocmask},
};

/// The last signal.
const SIGNAL_MAX: i32 = 64;

/// `struct sigaction` as the kernel has it on this architecture: handler, flags, restorer, mask. All zero is SIG_DFL.
#[repr(C)]
#[derive(Default)]
struct KernelAction {
    handler: usize,
    flags: libc::c_ulong,
    restorer: usize,
    mask: u64,
}

/// Gives every signal its default action and unblocks all of them. Call it right before execve.
pub(super) fn reset() {
    let action = KernelAction::default();
    for signal in 1..=SIGNAL_MAX {
        // SAFETY: the kernel reads one action from the pointer, which is that of a live local, and the default action
        // runs no code of this process. It refuses SIGKILL and SIGSTOP, which are never anything else.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                &raw const action,
                std::ptr::null_mut::<KernelAction>(),
                size_of::<u64>(),
            );
        }
    }
    // It can only fail for a bad argument.
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fork;

    #[test]
    fn nothing_is_ignored_or_blocked_afterwards() {
        let is_reset = fork::run(None, || {
            let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None);
            reset();
            let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
            ["SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"]
                .iter()
                .all(|line| status.contains(line))
        });
        assert!(is_reset.unwrap());
    }
}
