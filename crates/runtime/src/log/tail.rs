//! Finding where the last lines of a log begin, by reading it backwards. It refuses to read more than it must.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

use super::{
    entry::LogEntry,
    segment::{self, Segments},
};

/// Bytes read from a file at once.
const BLOCK_LEN: usize = 64 * 1024;

/// A position at the entry with the first of the last `count` lines, and how many of its lines come before that.
pub(super) fn last_lines(directory: &Path, count: usize) -> io::Result<(Segments, usize)> {
    let mut missing = count;
    let mut oldest = None;
    for number in segment::numbers(directory)?.into_iter().rev() {
        let file = match File::open(segment::path(directory, number)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            file => file?,
        };
        let found = search(&file, missing)?;
        let segments = Segments::from_position(directory.to_owned(), number, file, found.offset)?;
        if found.is_enough {
            return Ok((segments, found.surplus));
        }
        missing -= found.lines;
        oldest = Some(segments);
    }
    Ok((oldest.unwrap_or_else(|| Segments::from_start(directory.to_owned(), false)), 0))
}

/// What a search through one file found.
struct Found {
    /// Where the entry with the first wanted line begins.
    offset: u64,
    /// How many lines there are from there on.
    lines: usize,
    /// Whether they are as many as were wanted.
    is_enough: bool,
    /// How many more than were wanted.
    surplus: usize,
}

/// Goes backwards through a file until `wanted` lines of output were seen.
fn search(file: &File, wanted: usize) -> io::Result<Found> {
    // Everything before `start` is still to be read; `buffer` holds what comes after it and is not yet understood.
    let mut start = file.metadata()?.len();
    let mut buffer = Vec::new();
    let mut lines = 0;
    let mut is_first_piece = true;
    loop {
        // The last piece of the buffer, up to its end, is one log line; what follows the file's last end is unfinished.
        while let Some(end) = buffer.iter().rposition(|byte| *byte == b'\n') {
            let line = &buffer[end + 1..];
            if !std::mem::take(&mut is_first_piece) {
                lines += LogEntry::parse(line).map_or(0, |entry| entry.line_count());
            }
            if lines >= wanted {
                let offset = start + end as u64 + 1;
                return Ok(Found { offset, lines, is_enough: true, surplus: lines - wanted });
            }
            buffer.truncate(end);
        }
        if start == 0 {
            if !is_first_piece {
                lines += LogEntry::parse(&buffer).map_or(0, |entry| entry.line_count());
            }
            let is_enough = lines >= wanted;
            return Ok(Found { offset: 0, lines, is_enough, surplus: lines.saturating_sub(wanted) });
        }
        let len = BLOCK_LEN.min(usize::try_from(start).unwrap_or(BLOCK_LEN));
        start -= len as u64;
        let mut block = vec![0; len];
        file.read_exact_at(&mut block, start)?;
        block.append(&mut buffer);
        buffer = block;
    }
}
