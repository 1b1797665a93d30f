//! The workload's log: one JSON line for each piece of output, in numbered files of bounded length.
//!
//! ```text
//!   log/00000001.jsonl   {"ts":"2026-11-21T08:00:00.123Z","stream":"stdout","data":"hello\n"}
//!       00000002.jsonl   {"ts":...,"stream":"stderr","data":"/w==","encoding":"base64"}
//! ```
//!
//! Files are never renamed: the highest number is appended to, the lowest is removed, and a reader can't lose its place.
//! It refuses to fail: when the disk is full, output is dropped and counted, and the count is logged when there is room.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use hypercore_model::Timestamp;
use serde::Serialize;

use super::text;

/// What the names of log files end with.
const SUFFIX: &str = ".jsonl";

/// Where output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Length at which a file is followed by a new one, in bytes.
    pub(super) file_bytes_max: u64,
    /// How many files are kept.
    pub(super) files_max: u32,
}

#[derive(Serialize)]
struct Line<'a> {
    ts: &'a str,
    stream: &'static str,
    data: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<&'static str>,
}

/// Output that could not be written.
#[derive(Debug, Default)]
struct Lost {
    pieces: u64,
    bytes: u64,
}

/// The writing end of a workload's log.
#[derive(Debug)]
pub(super) struct LogWriter {
    directory: PathBuf,
    limits: Limits,
    number: u64,
    file: File,
    /// Length of the whole lines in `file`, in bytes.
    len: u64,
    /// Per stream, the begun character at the end of what was read last.
    begun: [Vec<u8>; 2],
    lost: Lost,
}

impl LogWriter {
    /// Opens the log in `directory`, making it if need be, behind whatever an earlier attempt wrote.
    pub(super) fn open(directory: PathBuf, limits: Limits) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let mut number = numbers(&directory)?.into_iter().max().unwrap_or(1);
        let (mut file, mut len) = open(&directory, number)?;
        if !ends_with_line(&mut file, len)? {
            // A crash of the machine tore the last line. It stays, and readers skip it.
            number += 1;
            (file, len) = open(&directory, number)?;
        }
        Ok(Self { directory, limits, number, file, len, begun: Default::default(), lost: Lost::default() })
    }

    /// Logs what was read from `stream`. A character that has only begun at its end waits for the rest.
    pub(super) fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let begun = std::mem::take(&mut self.begun[stream as usize]);
        let joined;
        let mut bytes = bytes;
        if !begun.is_empty() {
            joined = [&begun, bytes].concat();
            bytes = &joined;
        }
        let (whole, rest) = bytes.split_at(text::cut(bytes));
        self.begun[stream as usize] = rest.to_vec();
        self.log(stream, whole);
    }

    /// Logs what `stream` left unfinished: nothing more comes from it.
    pub(super) fn finish(&mut self, stream: Stream) {
        let rest = std::mem::take(&mut self.begun[stream as usize]);
        self.log(stream, &rest);
    }

    /// How many bytes of output the log neither has nor tells of, when nothing more comes.
    pub(super) fn lost_at_end(&mut self) -> u64 {
        // What it says of that is kept for the next time otherwise; there is none.
        let _ = self.log_lost();
        self.lost.bytes
    }

    fn log(&mut self, stream: Stream, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let name = match stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        let is_logged = self.log_lost().and_then(|()| self.append(name, bytes));
        if is_logged.is_err() {
            self.lost.pieces += 1;
            self.lost.bytes += bytes.len() as u64;
        }
    }

    /// Tells of what was lost, once there is room again.
    fn log_lost(&mut self) -> io::Result<()> {
        if self.lost.pieces == 0 {
            return Ok(());
        }
        let Lost { pieces, bytes } = self.lost;
        let text =
            format!("{bytes} bytes of output in {pieces} pieces were lost: the log could not be written\n");
        self.append("system", text.as_bytes())?;
        self.lost = Lost::default();
        Ok(())
    }

    fn append(&mut self, stream: &'static str, bytes: &[u8]) -> io::Result<()> {
        let ts = Timestamp::from_system_time(SystemTime::now()).to_string();
        let encoded;
        let (data, encoding) = match std::str::from_utf8(bytes) {
            Ok(text) => (text, None),
            Err(_) => {
                encoded = BASE64.encode(bytes);
                (encoded.as_str(), Some("base64"))
            }
        };
        let mut line = serde_json::to_vec(&Line { ts: &ts, stream, data, encoding })?;
        line.push(b'\n');
        if self.len > 0 && self.len + line.len() as u64 > self.limits.file_bytes_max {
            // Without room for another file this one grows: the limit is not worth losing output for.
            let _ = self.begin_file();
        }
        if let Err(error) = self.file.write_all(&line) {
            // A torn line would take the next one with it.
            self.file.set_len(self.len)?;
            return Err(error);
        }
        self.len += line.len() as u64;
        Ok(())
    }

    fn begin_file(&mut self) -> io::Result<()> {
        (self.file, self.len) = open(&self.directory, self.number + 1)?;
        self.number += 1;
        let keep_from = (self.number + 1).saturating_sub(u64::from(self.limits.files_max.max(1)));
        for number in numbers(&self.directory)?.into_iter().filter(|number| *number < keep_from) {
            fs::remove_file(path(&self.directory, number))?;
        }
        Ok(())
    }
}

fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:08}{SUFFIX}"))
}

/// Opens a file for appending, and says how long it is.
fn open(directory: &Path, number: u64) -> io::Result<(File, u64)> {
    let path = path(directory, number);
    let file = File::options().read(true).append(true).create(true).mode(0o600).open(path)?;
    let len = file.metadata()?.len();
    Ok((file, len))
}

fn ends_with_line(file: &mut File, len: u64) -> io::Result<bool> {
    if len == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::Start(len - 1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

fn numbers(directory: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let number =
            name.to_str().and_then(|name| name.strip_suffix(SUFFIX)).and_then(|number| number.parse().ok());
        numbers.extend::<Option<u64>>(number);
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests;
