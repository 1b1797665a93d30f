//! The children of this process, when they have to go: after a failed start there must be none, alive or unreaped, for
//! a namespace isn't gone before its last process was reaped.
//! It refuses to guess: only children that the kernel lists are ended.

use std::fs;

use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::{Pid, gettid},
};

/// Kills all children of this process, which must have a single thread, and takes their exit statuses.
pub(super) fn end() {
    // Without this file (CONFIG_PROC_CHILDREN) those that wait for something would be waited for forever.
    let Ok(list) = fs::read_to_string(format!("/proc/self/task/{}/children", gettid())) else { return };
    for pid in list.split_whitespace().filter_map(|pid| pid.parse().ok()) {
        // One that has ended already is there until it is reaped, so the number is still its own.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    while !matches!(waitpid(None, None), Err(Errno::ECHILD)) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fork;

    #[test]
    fn children_are_killed_and_reaped() {
        // In a child of its own: this process has children of other tests.
        let ended = fork::run(None, || {
            let begun = std::process::Command::new("sleep").arg("1000").spawn();
            end();
            begun.is_ok() && waitpid(None, None) == Err(Errno::ECHILD)
        });
        assert!(ended.unwrap());
    }
}
