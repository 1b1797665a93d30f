//! The files of a log as one sequence of lines. It refuses to hand out a line that isn't finished yet.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

/// Bytes read from a file at once.
const READ_LEN: usize = 64 * 1024;
/// A line longer than this is damage: the shim writes at most 64 KiB of output into one, sixfold when every byte has
/// to be escaped.
const LINE_LEN_MAX: usize = 1024 * 1024;
/// What the names of log files end with.
const SUFFIX: &str = ".jsonl";

/// A position in the sequence of lines.
#[derive(Debug)]
pub(super) struct Segments {
    directory: PathBuf,
    /// The file being read and its number; `None` before the first.
    current: Option<(u64, File)>,
    /// Bytes read and not handed out yet.
    buffer: Vec<u8>,
    /// How many bytes of `buffer` were handed out.
    taken: usize,
    /// Files that were removed before they were read, since this was last asked for.
    missed: u64,
    /// Whether files that were gone before the first one was read count as missed.
    is_whole: bool,
}

impl Segments {
    /// Before the oldest line; with `is_whole`, before the first that was ever written.
    pub(super) const fn from_start(directory: PathBuf, is_whole: bool) -> Self {
        Self { directory, current: None, buffer: Vec::new(), taken: 0, missed: 0, is_whole }
    }

    /// At a byte of a file, which must be the beginning of a line.
    pub(super) fn from_position(
        directory: PathBuf,
        number: u64,
        mut file: File,
        offset: u64,
    ) -> io::Result<Self> {
        file.seek(SeekFrom::Start(offset))?;
        let current = Some((number, file));
        Ok(Self { directory, current, buffer: Vec::new(), taken: 0, missed: 0, is_whole: false })
    }

    /// How many files were removed before they were read, since this was last asked.
    pub(super) fn take_missed(&mut self) -> u64 {
        std::mem::take(&mut self.missed)
    }

    /// The next finished line without its end, or `None` when there is no other by now.
    pub(super) fn next_line(&mut self) -> io::Result<Option<&[u8]>> {
        loop {
            let rest = &self.buffer[self.taken..];
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let start = self.taken;
                self.taken += end + 1;
                return Ok(Some(&self.buffer[start..start + end]));
            }
            if rest.len() > LINE_LEN_MAX {
                self.clear();
            }
            if !self.read_more()? {
                return Ok(None);
            }
        }
    }

    /// Reads on in this file or the next. `false` when there is nothing more.
    fn read_more(&mut self) -> io::Result<bool> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        // Whether there is a next file is asked before the last look into this one, which nobody writes to then.
        let next = self.next_number()?;
        if let Some((_, file)) = &mut self.current {
            let read = file.by_ref().take(READ_LEN as u64).read_to_end(&mut self.buffer)?;
            if read > 0 {
                return Ok(true);
            }
        }
        let Some(next) = next else { return Ok(false) };
        // An unfinished last line is what a crash of the machine leaves.
        self.clear();
        match File::open(path(&self.directory, next)) {
            Ok(file) => {
                self.missed += self.missed_before(next);
                self.current = Some((next, file));
            }
            // It was removed just now: there is a newer one.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// How many files there were between the one being read and `next`. They are numbered from 1.
    fn missed_before(&self, next: u64) -> u64 {
        match &self.current {
            Some((current, _)) => next - current - 1,
            None if self.is_whole => next.saturating_sub(1),
            None => 0,
        }
    }

    fn next_number(&self) -> io::Result<Option<u64>> {
        let after = self.current.as_ref().map_or(0, |(number, _)| number + 1);
        let is_next_there = self.current.is_some() && path(&self.directory, after).exists();
        if is_next_there {
            return Ok(Some(after));
        }
        Ok(numbers(&self.directory)?.into_iter().find(|number| *number >= after))
    }

    fn clear(&mut self) {
        self.buffer.clear();
        self.taken = 0;
    }
}

/// The path of a log file.
pub(super) fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:08}{SUFFIX}"))
}

/// The numbers of the log files there are, oldest first. None when there is no directory.
pub(super) fn numbers(directory: &Path) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let number =
            name.to_str().and_then(|name| name.strip_suffix(SUFFIX)).and_then(|number| number.parse().ok());
        numbers.extend::<Option<u64>>(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}
