//! Reading, tailing and following logs that a shim would have written.

use std::{fs, io::Write, time::Duration};

use super::*;

const WAIT_MAX: Duration = Duration::from_secs(10);

struct Log(tempfile::TempDir);

impl Log {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("log")).unwrap();
        Self(directory)
    }

    /// Appends entries, one per text, a second apart.
    fn write(&self, number: u64, first_second: u64, texts: &[&str]) {
        let path = segment::path(&self.0.path().join("log"), number);
        let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        for (second, text) in (first_second..).zip(texts) {
            let (ts, data) = (Timestamp::from_unix_ms(second * 1000), serde_json::to_string(text).unwrap());
            writeln!(file, r#"{{"ts":"{ts}","stream":"stdout","data":{data}}}"#).unwrap();
        }
    }

    fn write_raw(&self, number: u64, text: &str) {
        let path = segment::path(&self.0.path().join("log"), number);
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
    }

    fn end(&self) {
        fs::write(self.0.path().join("exit.json.new"), "{}").unwrap();
        fs::rename(self.0.path().join("exit.json.new"), self.0.path().join("exit.json")).unwrap();
    }

    fn open(&self, query: LogQuery) -> LogReader {
        LogReader::open(self.0.path(), query).unwrap()
    }

    async fn read(&self, query: LogQuery) -> String {
        rest(&mut self.open(query)).await
    }
}

async fn next(reader: &mut LogReader) -> Option<String> {
    let entry = tokio::time::timeout(WAIT_MAX, reader.next()).await.expect("the reader hangs").unwrap();
    entry.map(|entry| String::from_utf8(entry.data).unwrap())
}

async fn rest(reader: &mut LogReader) -> String {
    let mut text = String::new();
    while let Some(piece) = next(reader).await {
        text += &piece;
    }
    text
}

fn tail(lines: usize) -> LogQuery {
    LogQuery { tail: Some(lines), ..LogQuery::default() }
}

#[tokio::test]
async fn all_files_are_one_log_and_damage_is_skipped() {
    let log = Log::new();
    log.write(3, 0, &["a\n", "b"]);
    log.write_raw(3, r#"{"ts":"2023-"#);
    log.write_raw(4, "garbage\n");
    log.write(4, 2, &["c\n"]);
    log.write_raw(4, r#"{"ts":"unfinished"#);
    assert_eq!(log.read(LogQuery::default()).await, "a\nbc\n");
}

#[tokio::test]
async fn files_that_were_removed_unread_are_told_of() {
    let log = Log::new();
    log.write(1, 0, &["a\n"]);
    let mut reader = log.open(LogQuery { is_whole: true, ..LogQuery::default() });
    assert_eq!(next(&mut reader).await.unwrap(), "a\n");
    log.write(4, 3, &["d\n"]);
    let told = reader.next().await.unwrap().unwrap();
    assert_eq!(told.stream, LogStream::System);
    assert!(String::from_utf8(told.data).unwrap().contains("2 full log files"));
    assert_eq!(rest(&mut reader).await, "d\n");
}

#[tokio::test]
async fn a_log_that_begins_late_is_told_of_only_to_who_wants_the_whole() {
    let log = Log::new();
    log.write(3, 0, &["c\n"]);
    assert_eq!(log.read(LogQuery::default()).await, "c\n");
    let whole = log.read(LogQuery { is_whole: true, ..LogQuery::default() }).await;
    assert!(whole.starts_with("output was lost here") && whole.ends_with("c\n"), "{whole}");
}

#[tokio::test]
async fn nothing_written_is_an_empty_log() {
    let empty = tempfile::tempdir().unwrap();
    for query in [LogQuery::default(), tail(3)] {
        let mut reader = LogReader::open(empty.path(), query).unwrap();
        assert_eq!(next(&mut reader).await, None);
    }
}

#[tokio::test]
async fn a_tail_is_counted_in_lines_across_entries_and_files() {
    let log = Log::new();
    log.write(1, 0, &["1\n2\n3\n"]);
    log.write(2, 1, &["4\n5\n", "6\n"]);
    log.write(3, 3, &["7\n", "8"]);
    log.write_raw(3, r#"{"ts":"unfinished"#);
    for (lines, expected) in [
        (0, ""),
        (1, "8"),
        (2, "7\n8"),
        (3, "6\n7\n8"),
        (4, "5\n6\n7\n8"),
        (7, "2\n3\n4\n5\n6\n7\n8"),
        (8, "1\n2\n3\n4\n5\n6\n7\n8"),
        (99, "1\n2\n3\n4\n5\n6\n7\n8"),
    ] {
        assert_eq!(log.read(tail(lines)).await, expected, "{lines}");
    }
}

#[tokio::test]
async fn a_tail_is_found_across_blocks() {
    let log = Log::new();
    let long = "x".repeat(50_000) + "\n";
    log.write(1, 0, &[&long, &long, "a\n", &long, "b\n"]);
    assert_eq!(log.read(tail(3)).await, format!("a\n{long}b\n"));
}

#[tokio::test]
async fn entries_before_a_time_are_left_out() {
    let log = Log::new();
    log.write(1, 10, &["a", "b", "c"]);
    let since = Some(Timestamp::from_unix_ms(11_000));
    assert_eq!(log.read(LogQuery { since, ..LogQuery::default() }).await, "bc");
    assert_eq!(log.read(LogQuery { since, ..tail(99) }).await, "bc");
}

#[tokio::test]
async fn a_clock_that_jumps_changes_neither_order_nor_number_of_entries() {
    let log = Log::new();
    log.write(1, 100, &["a", "b"]);
    log.write(1, 10, &["c", "d"]);
    log.write(2, 1000, &["e"]);
    log.write(2, 20, &["f"]);
    assert_eq!(log.read(LogQuery::default()).await, "abcdef");
    assert_eq!(log.read(tail(6)).await, "abcdef");
    // Each is judged by its own time: what was written with the clock set back doesn't hide what came after.
    let since = Some(Timestamp::from_unix_ms(50_000));
    assert_eq!(log.read(LogQuery { since, ..LogQuery::default() }).await, "abe");
    assert_eq!(log.read(LogQuery { since, ..tail(99) }).await, "abe");
}

#[tokio::test]
async fn a_follower_sees_what_comes_and_then_the_end() {
    let log = Log::new();
    log.write(1, 0, &["a", "b"]);
    let mut reader = log.open(LogQuery { follow: true, ..tail(1) });
    assert_eq!(next(&mut reader).await.unwrap(), "b");
    assert!(tokio::time::timeout(Duration::from_millis(20), reader.next()).await.is_err(), "nothing to read");
    log.write(1, 2, &["c"]);
    assert_eq!(next(&mut reader).await.unwrap(), "c");
    log.write(2, 3, &["d"]);
    log.write(3, 4, &["e"]);
    assert_eq!(next(&mut reader).await.unwrap(), "d");
    let writes_then_ends = async {
        tokio::task::yield_now().await;
        log.write(3, 5, &["f"]);
        log.end();
    };
    let (text, ()) = tokio::join!(rest(&mut reader), writes_then_ends);
    assert_eq!(text, "ef");
}

#[tokio::test]
async fn a_follower_may_come_before_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let mut reader = LogReader::open(directory.path(), LogQuery { follow: true, ..tail(0) }).unwrap();
    let log = Log(directory);
    let begins = async {
        tokio::task::yield_now().await;
        fs::create_dir(log.0.path().join("log")).unwrap();
        log.write(1, 0, &["a"]);
        tokio::task::yield_now().await;
        log.end();
    };
    let (text, ()) = tokio::join!(rest(&mut reader), begins);
    assert_eq!(text, "a");
}

#[tokio::test]
async fn a_follower_ends_when_told_or_when_the_workload_is_removed() {
    let log = Log::new();
    log.write(1, 0, &["a"]);
    let mut told = log.open(LogQuery { follow: true, ..LogQuery::default() });
    told.finish();
    assert_eq!(rest(&mut told).await, "a");

    let mut orphan = log.open(LogQuery { follow: true, ..tail(0) });
    let removed = async {
        tokio::task::yield_now().await;
        fs::remove_dir_all(log.0.path()).unwrap();
    };
    let (text, ()) = tokio::join!(rest(&mut orphan), removed);
    assert_eq!(text, "");
}

#[tokio::test]
async fn a_follower_beyond_the_kernels_limit_follows_all_the_same() {
    use nix::sys::inotify::{InitFlags, Inotify};
    let limit: usize =
        fs::read_to_string("/proc/sys/fs/inotify/max_user_instances").unwrap().trim().parse().unwrap();
    let taken: Vec<Inotify> =
        (0..limit.min(1024)).map_while(|_| Inotify::init(InitFlags::IN_CLOEXEC).ok()).collect();
    let log = Log::new();
    log.write(1, 0, &["a"]);
    let mut reader = log.open(LogQuery { follow: true, ..LogQuery::default() });
    drop(taken);
    assert_eq!(next(&mut reader).await.unwrap(), "a");
    let writes_then_ends = async {
        tokio::task::yield_now().await;
        log.write(1, 1, &["b"]);
        log.end();
    };
    let (text, ()) = tokio::join!(rest(&mut reader), writes_then_ends);
    assert_eq!(text, "b");
}

#[tokio::test]
async fn a_follower_of_what_is_restarted_goes_on_after_an_end() {
    let log = Log::new();
    log.write(1, 0, &["one\n"]);
    log.end();
    let mut reader = log.open(LogQuery { follow: true, outlives_exit: true, ..LogQuery::default() });
    assert_eq!(next(&mut reader).await.unwrap(), "one\n");
    fs::remove_file(log.0.path().join("exit.json")).unwrap();
    log.write(1, 5, &["two\n"]);
    assert_eq!(next(&mut reader).await.unwrap(), "two\n");
    log.end();
    reader.finish();
    assert_eq!(next(&mut reader).await, None);
}

#[tokio::test]
async fn what_the_shim_could_not_log_is_told_once_at_the_end() {
    let log = Log::new();
    log.write(1, 0, &["one\n"]);
    let record = r#"{"exit":{"code":0},"started_at":1,"finished_at":2,"lost_output_bytes":9}"#;
    fs::write(log.0.path().join("exit.json"), record).unwrap();
    let mut reader = log.open(LogQuery { follow: true, ..LogQuery::default() });
    assert_eq!(next(&mut reader).await.unwrap(), "one\n");
    let told = next(&mut reader).await.unwrap();
    assert!(told.contains("9 bytes"), "{told}");
    assert_eq!(next(&mut reader).await, None);
}
