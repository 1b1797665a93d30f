//! Why a machine ended under its workload: the note that its monitor left beside it. An exit status can't say that.
//! It refuses to believe the note beyond its length: what a guest wrote to its console may stand in it.

use std::{
    fs::{self, File},
    io::Read as _,
    path::Path,
};

use hypercore_model::machine::END_NOTE;

/// Most bytes of a note.
const NOTE_LEN_MAX: u64 = 4096;

/// The note in a workload's directory, fit to be shown, if there is one. It is taken away.
#[must_use]
pub fn take(directory: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(directory.join(END_NOTE)).ok()?.take(NOTE_LEN_MAX).read_to_end(&mut bytes).ok()?;
    forget(directory);
    let text = String::from_utf8_lossy(&bytes);
    let shown: String = text.chars().filter(|character| !character.is_control()).collect();
    (!shown.is_empty()).then_some(shown)
}

/// Takes a note away: what it would say was asked for.
pub(crate) fn forget(directory: &Path) {
    // There is none of a container, and none of a machine that ended well.
    let _ = fs::remove_file(directory.join(END_NOTE));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_taken_once_and_is_fit_to_be_shown() {
        let scratch = tempfile::tempdir().unwrap();
        assert_eq!(take(scratch.path()), None);
        fs::write(scratch.path().join(END_NOTE), "it\u{1b}[2J ended\n".repeat(1000)).unwrap();
        let note = take(scratch.path()).unwrap();
        assert!(note.starts_with("it[2J ended") && note.len() <= 4096, "{note}");
        assert_eq!(take(scratch.path()), None);
    }
}
