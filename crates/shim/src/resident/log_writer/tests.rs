//! What ends up in the files.

use serde_json::Value;

use super::*;

const ROOMY: Limits = Limits { file_bytes_max: 1 << 20, files_max: 3 };

struct Log(tempfile::TempDir);

impl Log {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn writer(&self, limits: Limits) -> LogWriter {
        LogWriter::open(self.0.path().join("log"), limits).unwrap()
    }

    fn files(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.0.path().join("log"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// `stream data [encoding]` of each line.
    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for name in self.files() {
            let text = fs::read_to_string(self.0.path().join("log").join(name)).unwrap();
            lines.extend(text.lines().map(|line| {
                let line: Value = serde_json::from_str(line).unwrap();
                let field = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
                format!("{} {} {}", field("stream"), field("data"), field("encoding"))
                    .trim_end_matches(' ')
                    .to_owned()
            }));
        }
        lines
    }
}

#[test]
fn text_is_logged_as_text_and_the_rest_as_base64() {
    let log = Log::new();
    let mut writer = log.writer(ROOMY);
    writer.write(Stream::Stdout, "h\u{1b}é\n".as_bytes());
    writer.write(Stream::Stderr, &[0xff, 0]);
    writer.write(Stream::Stdout, b"");
    assert_eq!(log.lines(), ["stdout h\u{1b}é\n", "stderr /wA= base64"]);
}

#[test]
fn a_split_character_is_put_together_again_per_stream() {
    let log = Log::new();
    let mut writer = log.writer(ROOMY);
    writer.write(Stream::Stdout, b"a\xc3");
    writer.write(Stream::Stderr, b"x");
    writer.write(Stream::Stdout, b"\xa9b\xf0\x9f");
    writer.finish(Stream::Stdout);
    writer.finish(Stream::Stderr);
    assert_eq!(log.lines(), ["stdout a", "stderr x", "stdout éb", "stdout 8J8= base64"]);
}

#[test]
fn files_are_bounded_in_length_and_number() {
    let log = Log::new();
    let mut writer = log.writer(Limits { file_bytes_max: 200, files_max: 2 });
    for number in 0..10 {
        writer.write(Stream::Stdout, format!("{number}").as_bytes());
    }
    assert_eq!(log.files(), ["00000003.jsonl", "00000004.jsonl"]);
    assert_eq!(log.lines(), ["stdout 6", "stdout 7", "stdout 8", "stdout 9"]);
}

#[test]
fn a_piece_longer_than_a_file_is_logged_all_the_same() {
    let log = Log::new();
    let mut writer = log.writer(Limits { file_bytes_max: 10, files_max: 2 });
    writer.write(Stream::Stdout, b"first");
    writer.write(Stream::Stdout, b"second");
    assert_eq!(log.lines(), ["stdout first", "stdout second"]);
}

#[test]
fn another_attempt_goes_on_behind_the_last_and_a_torn_line_is_left_alone() {
    let log = Log::new();
    log.writer(ROOMY).write(Stream::Stdout, b"a");
    log.writer(ROOMY).write(Stream::Stdout, b"b");
    assert_eq!((log.files().len(), log.lines().len()), (1, 2));
    let path = log.0.path().join("log/00000001.jsonl");
    File::options().append(true).open(path).unwrap().write_all(b"{\"ts\":").unwrap();
    log.writer(ROOMY).write(Stream::Stdout, b"c");
    assert_eq!(log.files(), ["00000001.jsonl", "00000002.jsonl"]);
}

#[test]
fn what_could_not_be_written_is_counted_and_told() {
    let log = Log::new();
    let mut writer = log.writer(ROOMY);
    let file = std::mem::replace(&mut writer.file, File::options().write(true).open("/dev/full").unwrap());
    writer.write(Stream::Stdout, b"abc");
    writer.write(Stream::Stderr, b"de");
    writer.file = file;
    writer.write(Stream::Stdout, b"back");
    assert_eq!(
        log.lines(),
        ["system 5 bytes of output in 2 pieces were lost: the log could not be written\n", "stdout back"]
    );
}

#[test]
fn what_was_never_told_is_counted_at_the_end() {
    let log = Log::new();
    let mut writer = log.writer(ROOMY);
    writer.write(Stream::Stdout, b"kept");
    assert_eq!(writer.lost_at_end(), 0);
    // What can only be read takes no line.
    writer.file = File::open(log.0.path().join("log/00000001.jsonl")).unwrap();
    writer.write(Stream::Stdout, b"lost");
    writer.write(Stream::Stderr, b"too");
    assert_eq!(writer.lost_at_end(), 7);
    assert_eq!(log.lines(), ["stdout kept"]);
}
