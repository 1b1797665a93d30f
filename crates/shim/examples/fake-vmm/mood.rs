//! How the fake misbehaves: what a file `mood` beside the program says, one word a line.

use std::{fs, path::Path, thread};

/// What is wrong with it; nothing, when there is no file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mood {
    /// It is of a release that nobody supports.
    pub(crate) is_old: bool,
    /// It ends before it listens.
    pub(crate) is_dead: bool,
    /// It listens, and answers nothing.
    pub(crate) is_silent: bool,
    /// The guest's port is closed.
    pub(crate) guest_refuses: bool,
    /// The guest's port is closed to the first few who connect, as while a guest boots.
    pub(crate) guest_boots: bool,
    /// The guest's port leads to something else.
    pub(crate) guest_is_garbage: bool,
    /// Nothing comes from the guest's port.
    pub(crate) guest_is_silent: bool,
    /// Machines can't be saved.
    pub(crate) refuses_to_save: bool,
}

impl Mood {
    pub(crate) fn beside(program: &Path) -> Self {
        let text = fs::read_to_string(program.with_file_name("mood")).unwrap_or_default();
        let says = |word: &str| text.lines().any(|line| line == word);
        Self {
            is_old: says("old"),
            is_dead: says("dead"),
            is_silent: says("silent"),
            guest_refuses: says("guest-refuses"),
            guest_boots: says("guest-boots"),
            guest_is_garbage: says("guest-is-garbage"),
            guest_is_silent: says("guest-is-silent"),
            refuses_to_save: says("refuses-to-save"),
        }
    }

    /// Answers nothing, if that is its mood.
    pub(crate) fn keep_silent(&self) {
        if self.is_silent {
            loop {
                thread::park();
            }
        }
    }

    /// What `--version` prints.
    pub(crate) fn version(&self, name: &str) -> String {
        match name {
            "firecracker" => format!("Firecracker v{}\n", self.release(name)),
            "jailer" => format!("Jailer v{}\n", self.release(name)),
            _ => format!("{name} v{}", self.release(name)),
        }
    }

    /// The release by itself.
    pub(crate) fn release(&self, name: &str) -> &'static str {
        match (name, self.is_old) {
            ("cloud-hypervisor", false) => "53.0.0",
            ("cloud-hypervisor", true) => "40.0.0",
            (_, false) => "1.17.0",
            (_, true) => "1.4.0",
        }
    }
}
