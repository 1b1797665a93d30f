//! A writer process is killed with SIGKILL again and again: the store opens each time, every acknowledged batch is
//! there, and no batch is there in part.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use hypercore_store::{Batch, Store};

const ROUNDS: usize = 25;
const DEADLINE: Duration = Duration::from_secs(30);
/// Tells the test below that it is the writer, and where to write.
const WRITER: &str = "HYPERCORE_STORE_TEST_WRITER";
const FIRST: &str = "test/first";
const SECOND: &str = "test/second";

/// The writer process, killed when the test is done with it.
struct Writer(Child);

impl Writer {
    fn start(directory: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "crash::writer_process", "--nocapture"]).env(WRITER, directory);
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn store_path(directory: &Path) -> PathBuf {
    directory.join("node.redb")
}

fn acknowledged_path(directory: &Path) -> PathBuf {
    directory.join("acknowledged")
}

/// How many batches were acknowledged: the writer appends one byte for each.
fn acknowledged(directory: &Path) -> u64 {
    fs::metadata(acknowledged_path(directory)).map_or(0, |metadata| metadata.len())
}

/// Not a test by itself: the process that gets killed.
#[test]
fn writer_process() {
    let Some(directory) = std::env::var_os(WRITER).map(PathBuf::from) else { return };
    let store = super::open(&store_path(&directory));
    let mut acknowledged =
        OpenOptions::new().append(true).create(true).open(acknowledged_path(&directory)).unwrap();
    for number in count(&store).. {
        let value = vec![number as u8; 100 + (number % 7 * 900) as usize];
        let mut batch = Batch::new();
        batch.put(FIRST, number.to_be_bytes(), value.clone()).put(SECOND, number.to_be_bytes(), value);
        store.write(&batch).unwrap();
        acknowledged.write_all(b"+").unwrap();
    }
}

/// How many batches the store has. Panics unless they are all complete and none is missing in between.
fn count(store: &Store) -> u64 {
    let (first, second) = (store.scan(FIRST, &[]).unwrap(), store.scan(SECOND, &[]).unwrap());
    assert!(first == second, "a batch is there in part");
    for (number, (key, value)) in first.iter().enumerate() {
        assert_eq!(**key, (number as u64).to_be_bytes());
        assert!(value.iter().all(|byte| *byte == number as u8));
    }
    first.len() as u64
}

#[test]
fn every_acknowledged_batch_survives_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..ROUNDS {
        let target = acknowledged(directory.path()) + 1 + (round as u64 * 7) % 23;
        let mut writer = Writer::start(directory.path());
        let deadline = Instant::now() + DEADLINE;
        while acknowledged(directory.path()) < target {
            assert!(Instant::now() < deadline, "the writer makes no progress");
            assert!(writer.0.try_wait().unwrap().is_none(), "the writer ended by itself");
            std::thread::yield_now();
        }
        drop(writer);
        let promised = acknowledged(directory.path());
        let found = count(&super::open(&store_path(directory.path())));
        // One more may be complete that the writer had no time to acknowledge.
        assert!(
            (promised..=promised + 1).contains(&found),
            "{promised} were acknowledged, {found} are there"
        );
        File::options()
            .write(true)
            .open(acknowledged_path(directory.path()))
            .unwrap()
            .set_len(found)
            .unwrap();
    }
}

#[test]
fn a_crash_while_the_store_is_made_leaves_all_of_it_or_none() {
    let directory = tempfile::tempdir().unwrap();
    for _ in 0..ROUNDS {
        let writer = Writer::start(directory.path());
        let deadline = Instant::now() + DEADLINE;
        while !directory.path().join("node.new").exists() && !store_path(directory.path()).exists() {
            assert!(Instant::now() < deadline, "the writer makes no progress");
            std::thread::yield_now();
        }
        drop(writer);
        drop(super::open(&store_path(directory.path())));
        fs::remove_file(store_path(directory.path())).unwrap();
    }
}
