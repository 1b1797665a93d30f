//! The ledger against its promises: acknowledged means on disk and visible, queued commands share a block, a failed
//! write is settled, and what was changed behind its back is told when it is opened.

mod crash;

use std::{collections::BTreeSet, path::Path, time::Duration};

use hypercore_cluster::state::{Desired, RejectionKind, Table};
use hypercore_model::{NodeId, Timestamp, WorkloadId, WorkloadSpec};
use hypercore_store::{Batch, WrappingKey, faulty::FaultyDisk};

use super::{
    book::{BLOCKS_TABLE, HISTORY_BLOCKS},
    *,
};

const SHUTDOWN: Duration = Duration::from_secs(10);

fn identity() -> Identity {
    Identity::from_seed(&[1; 32])
}

fn node() -> NodeId {
    identity().node_id()
}

fn store(path: &Path) -> Store {
    Store::open(path, WrappingKey::from_bytes([7; 32]), Flush::Never).unwrap()
}

fn admit() -> Command {
    Command::AdmitNode { node: node(), subnet: "172.16.0.0/16".parse().unwrap() }
}

fn id(number: u32) -> WorkloadId {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    WorkloadId::from_entropy(bytes)
}

fn create(number: u32) -> Command {
    let name = Some(format!("w{number}").parse().unwrap());
    let spec = WorkloadSpec { name, ..WorkloadSpec::of_image("web:1".parse().unwrap()) };
    Command::CreateWorkload { id: id(number), spec: Box::new(spec), node: node() }
}

fn now() -> Timestamp {
    Timestamp::from_unix_ms(1)
}

async fn open(path: &Path) -> (Ledger, Supervisor) {
    let supervisor = Supervisor::new();
    (Ledger::on_store(store(path), identity(), &supervisor).unwrap(), supervisor)
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("node.redb");
    let (ledger, supervisor) = open(&path).await;
    assert_eq!(ledger.submit(admit()).await.unwrap().height, 1);
    let committed = ledger.submit(create(1)).await.unwrap();
    assert_eq!(committed.height, 2);
    assert_eq!(committed.events, [Event::WorkloadCreated { id: id(1), node: node() }]);
    assert!(ledger.read(|state| state.workload(&id(1)).is_some()), "it is visible at once");
    let stop = Command::StopWorkload { id: id(1), signal: None, grace_ms: 5 };
    ledger.submit(stop).await.unwrap();
    let root = ledger.read(State::root);
    supervisor.shutdown(SHUTDOWN).await;
    assert!(!ledger.is_open());
    assert!(matches!(ledger.submit(create(2)).await, Err(SubmitError::Closed)));
    drop(ledger);

    let (ledger, supervisor) = open(&path).await;
    assert_eq!((ledger.opened_at_height(), ledger.read(State::root)), (3, root));
    let desired = ledger.read(|state| state.workload(&id(1)).unwrap().desired);
    assert_eq!(desired, Desired::Stopped { signal: None, grace_ms: 5 });
    assert_eq!(ledger.submit(create(2)).await.unwrap().height, 4, "it goes on where it was");
    supervisor.shutdown(SHUTDOWN).await;
}

#[tokio::test]
async fn a_repetition_makes_no_block_and_a_rejection_none_either() {
    let supervisor = Supervisor::new();
    let store = Store::open_in_memory().unwrap();
    let ledger = Ledger::on_store(store, identity(), &supervisor).unwrap();
    ledger.submit(admit()).await.unwrap();
    ledger.submit(create(1)).await.unwrap();
    let changes = ledger.changes();
    for repeated in [admit(), create(1)] {
        let committed = ledger.submit(repeated).await.unwrap();
        assert_eq!(committed, Committed { height: 2, events: Vec::new() });
    }
    let unknown = ledger.submit(Command::RemoveWorkload { id: id(9) }).await.unwrap_err();
    assert!(
        matches!(unknown, SubmitError::Rejected(rejection) if rejection.kind() == RejectionKind::NotFound)
    );
    assert!(!changes.has_changed().unwrap());
    supervisor.shutdown(SHUTDOWN).await;
    assert!(changes.has_changed().is_err(), "the end is told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_that_queue_up_share_blocks_and_none_is_lost() {
    const COUNT: u32 = 500;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("node.redb");
    let (ledger, supervisor) = open(&path).await;
    ledger.submit(admit()).await.unwrap();
    let submitted = (0..COUNT).map(|number| ledger.submit(create(number)));
    let results = futures_util::future::join_all(submitted).await;
    let heights: BTreeSet<u64> = results.into_iter().map(|result| result.unwrap().height).collect();
    assert!(heights.len() < COUNT as usize / 4, "{} blocks for {COUNT} commands", heights.len());
    assert_eq!(*ledger.changes().borrow(), *heights.last().unwrap());
    supervisor.shutdown(SHUTDOWN).await;
    drop(ledger);
    let (ledger, supervisor) = open(&path).await;
    assert_eq!(ledger.read(|state| state.workloads().count()), COUNT as usize);
    supervisor.shutdown(SHUTDOWN).await;
}

#[test]
fn the_history_is_bounded_and_leads_to_the_state() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("node.redb");
    let mut book = Book::open(store(&path), identity()).unwrap();
    book.enter(&[admit()], now());
    for number in 0..HISTORY_BLOCKS as u32 / 2 + 20 {
        book.enter(&[create(number)], now());
        book.enter(&[Command::RemoveWorkload { id: id(number) }], now());
    }
    let tip = *book.state().tip().unwrap();
    drop(book);
    let kept = store(&path).scan(BLOCKS_TABLE, &[]).unwrap();
    assert_eq!(kept.len() as u64, HISTORY_BLOCKS);
    let book = Book::open(store(&path), identity()).unwrap();
    assert_eq!(book.state().tip(), Some(&tip));
}

/// Changes the stored rows behind the ledger's back, with the store's own key.
fn meddle(path: &Path, change: impl FnOnce(&mut Batch, &Store)) -> RecoverError {
    let store = store(path);
    let mut batch = Batch::new();
    change(&mut batch, &store);
    store.write(&batch).unwrap();
    Book::open(store, identity()).unwrap_err()
}

#[test]
fn rows_that_were_changed_behind_its_back_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let made = |name: &str| {
        let path = directory.path().join(name);
        let mut book = Book::open(store(&path), identity()).unwrap();
        book.enter(&[admit(), create(1)], now());
        book.enter(&[create(2)], now());
        path
    };
    let removed = meddle(&made("removed"), |batch, _| {
        batch.delete(Table::Workloads.as_str(), *id(1).as_bytes());
    });
    assert!(matches!(removed, RecoverError::State(LoadError::Root { height: 2, .. })), "{removed:?}");
    let missing = meddle(&made("missing"), |batch, _| {
        batch.delete(BLOCKS_TABLE, 1u64.to_be_bytes());
    });
    assert!(matches!(missing, RecoverError::History { height: 1, what: "missing" }), "{missing:?}");
    let swapped = meddle(&made("swapped"), |batch, store| {
        let other = store.get(BLOCKS_TABLE, &1u64.to_be_bytes()).unwrap().unwrap();
        batch.put(BLOCKS_TABLE, 2u64.to_be_bytes(), other);
    });
    assert!(matches!(swapped, RecoverError::History { height: 2, .. }), "{swapped:?}");
}

#[test]
fn every_kept_command_is_still_under_its_authors_signature() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("node.redb");
    let mut book = Book::open(store(&path), identity()).unwrap();
    book.enter(&[admit(), create(1), create(2)], now());
    book.enter(&[Command::RemoveWorkload { id: id(1) }], now());
    let root = book.state().root();
    drop(book);
    let mut replayed = State::new();
    for (_, bytes) in store(&path).scan(BLOCKS_TABLE, &[]).unwrap() {
        let block = hypercore_cluster::state::Block::decode(&bytes).unwrap();
        let commands: Vec<_> = block.commands.into_iter().map(|command| command.verify().unwrap()).collect();
        for command in &commands {
            assert_eq!(command.signer(), node());
            replayed.apply(command).unwrap();
        }
        assert_eq!(replayed.seal(block.header.at, &commands).block.header, block.header);
    }
    assert_eq!(replayed.root(), root);
}

fn on_faulty(disk: &FaultyDisk) -> Store {
    Store::open_faulty(disk, WrappingKey::from_bytes([7; 32])).unwrap()
}

#[tokio::test]
async fn on_a_full_disk_commands_fail_and_once_there_is_room_they_succeed() {
    let (disk, supervisor) = (FaultyDisk::default(), Supervisor::new());
    let ledger = Ledger::on_store(on_faulty(&disk), identity(), &supervisor).unwrap();
    ledger.submit(admit()).await.unwrap();
    let changes = ledger.changes();
    disk.limit(Some(disk.size()));
    let mut number = 0;
    let error = loop {
        number += 1;
        assert!(number < 10_000, "the disk never fills");
        if let Err(error) = ledger.submit(create(number)).await {
            break error;
        }
    };
    assert!(
        matches!(&error, SubmitError::Write(source) if matches!(**source, WriteError::DiskFull(_))),
        "{error:?}"
    );
    let height = *changes.borrow();
    // Whoever tries again gets the same answer, and readers see nothing of what was refused: keepers would act on it.
    for _ in 0..3 {
        assert_eq!(
            (ledger.read(State::height), ledger.read(|state| state.workloads().count() as u32)),
            (height, number - 1)
        );
        ledger.submit(create(number)).await.unwrap_err();
    }
    disk.limit(None);
    assert_eq!(ledger.submit(create(number)).await.unwrap().height, height + 1);
    supervisor.shutdown(SHUTDOWN).await;
    drop(ledger);
    let book = Book::open(on_faulty(&disk), identity()).unwrap();
    assert_eq!(book.state().workloads().count() as u32, number);
}

#[tokio::test]
async fn after_a_lost_flush_the_store_says_what_became_of_the_command() {
    for flushes in 0..3 {
        let (disk, supervisor) = (FaultyDisk::default(), Supervisor::new());
        let ledger = Ledger::on_store(on_faulty(&disk), identity(), &supervisor).unwrap();
        ledger.submit(admit()).await.unwrap();
        disk.limit_flushes(Some(flushes));
        let result = ledger.submit(create(1)).await;
        if let Err(error) = &result {
            assert!(matches!(error, SubmitError::Write(_)), "{error:?}");
            let while_broken = ledger.submit(create(2)).await.unwrap_err();
            assert!(
                matches!(while_broken, SubmitError::Recover(_) | SubmitError::Write(_)),
                "{while_broken:?}"
            );
        }
        disk.limit_flushes(None);
        ledger.submit(create(1)).await.unwrap();
        ledger.submit(create(3)).await.unwrap();
        let seen = ledger.read(|state| (state.height(), state.root()));
        supervisor.shutdown(SHUTDOWN).await;
        drop(ledger);
        let book = Book::open(on_faulty(&disk), identity()).unwrap();
        assert_eq!((book.state().height(), book.state().root()), seen, "readers saw what is stored");
        assert!(book.state().workload(&id(1)).is_some());
    }
}
