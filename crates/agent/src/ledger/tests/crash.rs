//! A process that submits commands is killed with SIGKILL again and again: the state opens each time, its history
//! leads to it, and every acknowledged command is in it.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::PathBuf,
    process::{Child, Command as Process, Stdio},
    time::Instant,
};

use super::*;

const ROUNDS: u32 = 12;
const SUBMITTERS: u32 = 8;
const DEADLINE: Duration = Duration::from_secs(30);
/// Tells the test below that it is the submitter, and where to work.
const SUBMITTER: &str = "HYPERCORE_LEDGER_TEST_SUBMITTER";

/// The submitting process, killed when the test is done with it.
struct Submitter(Child);

impl Submitter {
    fn start(directory: &Path) -> Self {
        let mut command = Process::new(std::env::current_exe().unwrap());
        command.args(["--exact", "ledger::tests::crash::submitter_process", "--nocapture"]);
        command.env(SUBMITTER, directory).stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Submitter {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn flushed_store(directory: &Path) -> Store {
    let path = directory.join("node.redb");
    Store::open(&path, WrappingKey::from_bytes([7; 32]), Flush::Always).unwrap()
}

/// The numbers that were acknowledged: four bytes each, appended in one write.
fn acknowledged(directory: &Path) -> Vec<u32> {
    let bytes = fs::read(directory.join("acknowledged")).unwrap_or_default();
    bytes.chunks_exact(4).map(|number| u32::from_be_bytes(number.try_into().unwrap())).collect()
}

/// Not a test by itself: the process that gets killed. Several tasks submit, so that blocks hold several commands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn submitter_process() {
    let Some(directory) = std::env::var_os(SUBMITTER).map(PathBuf::from) else { return };
    let supervisor = Supervisor::new();
    let ledger = Ledger::on_store(flushed_store(&directory), identity(), &supervisor).unwrap();
    ledger.submit(admit()).await.unwrap();
    let next = ledger.read(|state| state.workloads().count()) as u32;
    let submitters = (0..SUBMITTERS).map(|submitter| {
        let (ledger, path) = (ledger.clone(), directory.join("acknowledged"));
        async move {
            let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
            // Numbers that an earlier round has used are repetitions without effect, and acknowledged again.
            for number in (next + submitter..).step_by(SUBMITTERS as usize) {
                ledger.submit(create(number)).await.unwrap();
                file.write_all(&number.to_be_bytes()).unwrap();
            }
        }
    });
    futures_util::future::join_all(submitters).await;
}

#[test]
fn every_acknowledged_command_survives_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..ROUNDS {
        let target = acknowledged(directory.path()).len() + 1 + (round as usize * 13) % 41;
        let mut submitter = Submitter::start(directory.path());
        let deadline = Instant::now() + DEADLINE;
        while acknowledged(directory.path()).len() < target {
            assert!(Instant::now() < deadline, "the submitter makes no progress");
            assert!(submitter.0.try_wait().unwrap().is_none(), "the submitter ended by itself");
            std::thread::yield_now();
        }
        drop(submitter);
        let book = Book::open(flushed_store(directory.path()), identity()).unwrap();
        for number in acknowledged(directory.path()) {
            assert!(
                book.state().workload(&id(number)).is_some(),
                "command {number} was acknowledged and is lost"
            );
        }
    }
}
