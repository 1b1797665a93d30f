//! Telling a kill for lack of memory from any other SIGKILL: the kernel counts those per cgroup (`oom_kill` in v1's
//! `memory.oom_control` and v2's `memory.events`). It refuses to guess without that file.

use std::{fs, path::PathBuf};

use hypercore_wire::message::Exit;
use nix::libc::SIGKILL;

/// What shells exit with when SIGKILL ended what they ran.
const KILLED_CODE: u8 = 128 + 9;

/// The counter of one workload, and what it was last.
#[derive(Debug)]
pub(super) struct OomCounter {
    path: Option<PathBuf>,
    seen: u64,
}

impl OomCounter {
    /// The counter in the file at `path`.
    pub(super) const fn new(path: Option<PathBuf>) -> Self {
        Self { path, seen: 0 }
    }

    /// How a process ended that the system says ended with `exit`. A shell that passes on the end of what it ran
    /// counts too: nobody is helped by a bare 137.
    pub(super) fn explain(&mut self, exit: Exit, was_killed_by_request: bool) -> Exit {
        let looks_killed = exit == Exit::Signal(SIGKILL as u8) || exit == Exit::Code(KILLED_CODE);
        if !looks_killed || was_killed_by_request {
            return exit;
        }
        let count = self.count().unwrap_or(self.seen);
        let has_grown = count > self.seen;
        self.seen = count;
        if has_grown { Exit::OutOfMemory } else { exit }
    }

    fn count(&self) -> Option<u64> {
        let text = fs::read_to_string(self.path.as_ref()?).ok()?;
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_new_kill_by_the_kernel_explains_an_end() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("memory.oom_control");
        let set = |count: u32| {
            fs::write(&path, format!("oom_kill_disable 0\nunder_oom 0\noom_kill {count}\n")).unwrap();
        };
        set(0);
        let mut counter = OomCounter::new(Some(path.clone()));
        assert_eq!(counter.explain(Exit::Signal(9), false), Exit::Signal(9));
        set(2);
        assert_eq!(counter.explain(Exit::Code(1), false), Exit::Code(1));
        assert_eq!(counter.explain(Exit::Signal(9), true), Exit::Signal(9));
        assert_eq!(counter.explain(Exit::Code(137), false), Exit::OutOfMemory);
        assert_eq!(counter.explain(Exit::Signal(9), false), Exit::Signal(9));
        fs::remove_file(&path).unwrap();
        assert_eq!(counter.explain(Exit::Signal(9), false), Exit::Signal(9));
        assert_eq!(OomCounter::new(None).explain(Exit::Signal(9), false), Exit::Signal(9));
    }
}
