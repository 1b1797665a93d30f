//! What QEMU says on its standard error while it can't punch holes: the complaint about each of them is dropped, the rest
//! goes on to ours, up to a bound. It refuses to let a guest that frees memory fill a log.

use std::{
    io::{self, BufRead as _, BufReader, Read, Write},
    process::Command,
    thread,
};

/// The complaint (7.2, softmmu/physmem.c).
const COMPLAINT: &[u8] = b"ram_block_discard_range";
/// Longest piece of a line that is looked at, in bytes.
const LINE_LEN_MAX: u64 = 4096;
/// Most that goes on to our own standard error, in bytes.
const TEXT_LEN_MAX: usize = 64 * 1024;

/// Has the program speak through a thread of ours, which ends with it.
pub(super) fn listen(command: &mut Command) -> io::Result<()> {
    let (reader, writer) = io::pipe()?;
    command.stderr(writer);
    thread::spawn(move || pass_on(reader, &mut io::stderr()));
    Ok(())
}

fn pass_on(from: impl Read, to: &mut impl Write) {
    let (mut from, mut line, mut room) = (BufReader::new(from), Vec::new(), TEXT_LEN_MAX);
    while from.by_ref().take(LINE_LEN_MAX).read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
        let is_complaint = line.windows(COMPLAINT.len()).any(|window| window == COMPLAINT);
        if !is_complaint && line.len() <= room {
            room -= line.len();
            // A log that is closed is no reason to stop the machine.
            let _ = to.write_all(&line);
        }
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_about_holes_are_dropped_and_the_rest_is_bounded() {
        let mut told = Vec::new();
        let said = "qemu: ram_block_discard_range: Failed to fallocate mem:0 +400000 (-95)\nqemu: broken\n";
        pass_on(said.repeat(3).as_bytes(), &mut told);
        assert_eq!(String::from_utf8(told).unwrap(), "qemu: broken\n".repeat(3));
        let mut told = Vec::new();
        pass_on("x".repeat(10 * TEXT_LEN_MAX).as_bytes(), &mut told);
        assert_eq!(told.len(), TEXT_LEN_MAX);
    }
}
