//! Lines of one output of one workload: what goes before each, and whole lines alone where several workloads speak.

/// What is printed of an output.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Goes before every line; empty when one workload speaks alone.
    prefix: String,
    has_timestamps: bool,
    /// The last piece did not end its line.
    is_within_line: bool,
    /// An unfinished line, held back so that no other workload's can fall into it.
    held: Vec<u8>,
}

/// An unfinished line longer than this is printed as it is.
const HELD_BYTES_MAX: usize = 64 * 1024;

impl Lines {
    pub(super) fn new(prefix: &str, has_timestamps: bool) -> Self {
        Self { prefix: prefix.to_owned(), has_timestamps, ..Self::default() }
    }

    /// What to print of a piece that was written at `at`.
    pub(super) fn add(&mut self, data: &[u8], at: &str) -> Vec<u8> {
        let mut printed = Vec::with_capacity(data.len());
        for piece in data.split_inclusive(|&byte| byte == b'\n') {
            if !self.is_within_line {
                self.held.extend_from_slice(self.prefix.as_bytes());
                if self.has_timestamps {
                    self.held.extend_from_slice(at.as_bytes());
                    self.held.push(b' ');
                }
            }
            self.held.extend_from_slice(piece);
            self.is_within_line = !piece.ends_with(b"\n");
            let may_go = !self.is_within_line || self.prefix.is_empty() || self.held.len() > HELD_BYTES_MAX;
            if may_go {
                printed.append(&mut self.held);
            }
        }
        printed
    }

    /// What is still held back when nothing more comes, with the line ended.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        let mut printed = std::mem::take(&mut self.held);
        if !printed.is_empty() {
            printed.push(b'\n');
        }
        printed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn one_workload_is_printed_as_it_wrote() {
        let mut lines = Lines::new("", false);
        assert_eq!(text(lines.add(b"a\nb", "T")), "a\nb");
        assert_eq!(text(lines.add(b"c\n", "T")), "c\n");
        assert_eq!(text(lines.finish()), "");
    }

    #[test]
    fn every_line_has_its_time_once() {
        let mut lines = Lines::new("", true);
        assert_eq!(text(lines.add(b"a\nb", "1")), "1 a\n1 b");
        assert_eq!(text(lines.add(b"c\nd\n", "2")), "c\n2 d\n");
    }

    #[test]
    fn lines_of_several_stay_whole() {
        let mut lines = Lines::new("web | ", false);
        assert_eq!(text(lines.add(b"one\ntw", "T")), "web | one\n");
        assert_eq!(text(lines.add(b"o\nrest", "T")), "web | two\n");
        assert_eq!(text(lines.finish()), "web | rest\n");
    }
}
