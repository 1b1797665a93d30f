//! One entry of a log: what one read of a workload's output got. Its form on disk is frozen; see [`super`].
//! It refuses to guess: a line that isn't an entry is none.

use std::time::SystemTime;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use hypercore_model::Timestamp;
use serde::Deserialize;

/// Where an entry came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogStream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
    /// The shim itself, about the log: such as that output was lost while the disk was full.
    System,
}

/// What a workload wrote at one time. An entry may hold several lines, or a piece of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// When it was read from the workload.
    pub ts: Timestamp,
    /// Where it came from.
    pub stream: LogStream,
    /// The bytes, as they were written.
    pub data: Vec<u8>,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    ts: &'a str,
    stream: &'a str,
    data: String,
    encoding: Option<&'a str>,
}

impl LogEntry {
    /// The entry in a line of a log file.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let line: Line<'_> = serde_json::from_slice(line).ok()?;
        let stream = match line.stream {
            "stdout" => LogStream::Stdout,
            "stderr" => LogStream::Stderr,
            "system" => LogStream::System,
            _ => return None,
        };
        let data = match line.encoding {
            None => line.data.into_bytes(),
            Some("base64") => BASE64.decode(line.data).ok()?,
            Some(_) => return None,
        };
        let ts: SystemTime = humantime::parse_rfc3339(line.ts).ok()?;
        Some(Self { ts: Timestamp::from_system_time(ts), stream, data })
    }

    /// How many lines it has, an unfinished last one included.
    pub(super) fn line_count(&self) -> usize {
        let ends = self.data.iter().filter(|byte| **byte == b'\n').count();
        ends + usize::from(self.data.last().is_some_and(|byte| *byte != b'\n'))
    }

    /// Takes the first `count` lines away.
    pub(super) fn skip_lines(&mut self, count: usize) {
        for _ in 0..count {
            let end = self.data.iter().position(|byte| *byte == b'\n');
            self.data.drain(..end.map_or(self.data.len(), |end| end + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(data: &[u8]) -> LogEntry {
        LogEntry {
            ts: Timestamp::from_unix_ms(1_700_000_000_123),
            stream: LogStream::Stderr,
            data: data.to_vec(),
        }
    }

    #[test]
    fn both_forms_are_understood() {
        let ts = r#""ts":"2023-11-14T22:13:20.123Z","stream":"stderr""#;
        let text = format!(r#"{{{ts},"data":"a\u001b\"\né"}}"#);
        assert_eq!(LogEntry::parse(text.as_bytes()), Some(entry("a\u{1b}\"\né".as_bytes())));
        let binary = format!(r#"{{{ts},"data":"AP8=","encoding":"base64","later":1}}"#);
        assert_eq!(LogEntry::parse(binary.as_bytes()), Some(entry(&[0, 255])));
    }

    #[test]
    fn what_is_no_entry_is_none() {
        for line in [
            "",
            "{}",
            r#"{"ts":"2023-11-14T22:13:20.123Z","stream":"stdout","data":"to"#,
            r#"{"ts":"yesterday","stream":"stdout","data":""}"#,
            r#"{"ts":"2023-11-14T22:13:20.123Z","stream":"x","data":""}"#,
            r#"{"ts":"2023-11-14T22:13:20.123Z","stream":"stdout","data":"","encoding":"rot13"}"#,
        ] {
            assert_eq!(LogEntry::parse(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn lines_are_counted_and_skipped() {
        for (data, count) in [("", 0), ("a", 1), ("a\n", 1), ("a\nb", 2), ("\n\n", 2)] {
            assert_eq!(entry(data.as_bytes()).line_count(), count, "{data:?}");
        }
        let mut three = entry(b"a\nb\nc");
        three.skip_lines(2);
        assert_eq!(three.data, b"c");
        three.skip_lines(5);
        assert_eq!(three.data, b"");
    }
}
