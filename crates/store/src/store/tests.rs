//! The store against its promises: whole batches, tampering told by name, full disks, damaged files, lost power.
//! A real `kill -9` is in `tests/host`.

use std::sync::LazyLock;

use proptest::prelude::*;
use redb::ReadableTable as _;

use super::*;
use crate::faulty::FaultyDisk;

const NODES: &str = "state/nodes";
const OTHER: &str = "state/other";

fn key() -> WrappingKey {
    WrappingKey::from_bytes([7; 32])
}

fn on(disk: &FaultyDisk) -> Store {
    Store::open_faulty(disk, key()).unwrap()
}

fn put(table: &'static str, key: &[u8], value: &[u8]) -> Batch {
    let mut batch = Batch::new();
    batch.put(table, key, value);
    batch
}

#[test]
fn a_batch_is_read_back_in_the_order_of_keys() {
    let store = Store::open_in_memory().unwrap();
    let mut batch = Batch::new();
    batch
        .put(NODES, *b"ab", *b"2")
        .put(NODES, *b"aa", *b"1")
        .put(NODES, *b"b", *b"3")
        .put(OTHER, *b"aa", *b"x");
    batch.put(NODES, *b"ac", *b"gone").delete(NODES, *b"ac");
    store.write(&batch).unwrap();
    let rows = |prefix: &[u8]| store.scan(NODES, prefix).unwrap();
    assert_eq!(rows(b"a"), [(b"aa".to_vec(), b"1".to_vec()), (b"ab".to_vec(), b"2".to_vec())]);
    assert_eq!(rows(b"").len(), 3);
    assert_eq!(rows(b"c"), []);
    assert_eq!(store.get(OTHER, b"aa").unwrap(), Some(b"x".to_vec()));
    assert_eq!(store.get(OTHER, b"zz").unwrap(), None);
    assert_eq!(store.get("never/written", b"aa").unwrap(), None);
    assert_eq!(store.scan("never/written", b"").unwrap(), []);
}

#[test]
fn what_was_written_is_there_after_reopening_with_the_same_key_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("node.redb");
    let store = Store::open(&path, key(), Flush::Always).unwrap();
    store.write(&put(NODES, b"key", b"value")).unwrap();
    let second = Store::open(&path, key(), Flush::Always).unwrap_err();
    assert!(matches!(second, OpenError::InUse), "{second}");
    drop(store);
    let wrong = Store::open(&path, WrappingKey::from_bytes([8; 32]), Flush::Always).unwrap_err();
    assert!(matches!(wrong, OpenError::Keyring(KeyringError::WrongKey)), "{wrong}");
    let store = Store::open(&path, key(), Flush::Never).unwrap();
    assert_eq!(store.get(NODES, b"key").unwrap(), Some(b"value".to_vec()));
}

#[test]
fn the_file_is_its_owners_alone_and_holds_no_value_in_the_clear() {
    use std::os::unix::fs::MetadataExt as _;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("node.redb");
    let store = Store::open(&path, key(), Flush::Always).unwrap();
    store.write(&put(NODES, b"key", b"a value nobody else may read")).unwrap();
    drop(store);
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    let bytes = std::fs::read(&path).unwrap();
    assert!(!bytes.windows(12).any(|window| window == b"nobody else "));
}

#[test]
fn a_passphrase_opens_a_store_too() {
    let disk = FaultyDisk::default();
    let open = |text: &str| Store::open_faulty(&disk, WrappingKey::from_passphrase(text.into()));
    open("correct horse").unwrap().write(&put(NODES, b"key", b"value")).unwrap();
    assert_eq!(open("correct horse").unwrap().get(NODES, b"key").unwrap(), Some(b"value".to_vec()));
    assert!(matches!(open("wrong horse"), Err(OpenError::Keyring(KeyringError::WrongKey))));
    let file = Store::open_faulty(&disk, key());
    assert!(matches!(file, Err(OpenError::Keyring(KeyringError::OtherKind { .. }))));
}

#[test]
fn rotation_seals_everything_anew_and_rewrapping_changes_the_lock() {
    let disk = FaultyDisk::default();
    let mut store = on(&disk);
    store.write(&put(NODES, b"key", b"value")).unwrap();
    store.write(&put(OTHER, b"key", b"other")).unwrap();
    let record =
        |disk: &FaultyDisk| raw(disk, |rows| rows.get(b"key".as_slice()).unwrap().unwrap().value().to_vec());
    assert_eq!(store.rotate().unwrap(), 2);
    store.rewrap(WrappingKey::from_passphrase("new".into())).unwrap();
    assert_eq!(store.get(NODES, b"key").unwrap(), Some(b"value".to_vec()));
    drop(store);
    assert_eq!(record(&disk)[..5], [1, 0, 0, 0, 2], "sealed with the second key");
    assert!(Store::open_faulty(&disk, key()).is_err());
    let store = Store::open_faulty(&disk, WrappingKey::from_passphrase("new".into())).unwrap();
    assert_eq!(store.get(OTHER, b"key").unwrap(), Some(b"other".to_vec()));
}

/// Does something to the stored records of `NODES` behind the store's back.
fn raw<T>(disk: &FaultyDisk, change: impl FnOnce(&mut redb::Table<&[u8], &[u8]>) -> T) -> T {
    let database = Database::builder().create_with_backend(disk.clone()).unwrap();
    let transaction = database.begin_write().unwrap();
    let result = change(&mut transaction.open_table(definition(NODES)).unwrap());
    transaction.commit().unwrap();
    result
}

#[test]
fn a_row_that_was_moved_is_an_error_that_names_it() {
    let disk = FaultyDisk::default();
    let store = on(&disk);
    store.write(&put(NODES, b"one", b"1")).unwrap();
    store.write(&put(NODES, b"two", b"2")).unwrap();
    drop(store);
    raw(&disk, |rows| {
        let one = rows.get(b"one".as_slice()).unwrap().unwrap().value().to_vec();
        rows.insert(b"two".as_slice(), one.as_slice()).unwrap();
    });
    let store = on(&disk);
    assert_eq!(store.get(NODES, b"one").unwrap(), Some(b"1".to_vec()));
    let error = store.get(NODES, b"two").unwrap_err();
    assert!(matches!(&error, ReadError::Row(RowError::Tampered { .. })));
    assert!(error.to_string().starts_with("the row 74776f of state/nodes was changed"), "{error}");
    assert!(store.scan(NODES, b"").is_err());
}

#[test]
fn a_full_disk_is_told_and_the_store_goes_on_once_there_is_room() {
    let disk = FaultyDisk::default();
    let store = on(&disk);
    store.write(&put(NODES, b"before", b"kept")).unwrap();
    disk.limit(Some(disk.size()));
    let big = vec![1u8; 8 * 1024 * 1024];
    let error = store.write(&put(NODES, b"big", &big)).unwrap_err();
    assert!(matches!(error, WriteError::DiskFull(_)), "{error:?}");
    assert_eq!(store.get(NODES, b"before").unwrap(), Some(b"kept".to_vec()));
    assert_eq!(store.get(NODES, b"big").unwrap(), None);
    disk.limit(None);
    store.write(&put(NODES, b"big", &big)).unwrap();
    drop(store);
    assert_eq!(on(&disk).get(NODES, b"big").unwrap(), Some(big));
}

#[test]
fn a_failed_flush_is_told_and_reading_tells_what_became_of_the_batch() {
    for flushes in 0..4 {
        let disk = FaultyDisk::default();
        let store = on(&disk);
        store.write(&put(NODES, b"before", b"kept")).unwrap();
        disk.limit_flushes(Some(flushes));
        let written = store.write(&put(NODES, b"doubtful", b"?"));
        disk.limit_flushes(None);
        let found = store.get(NODES, b"doubtful").unwrap();
        assert!(written.is_err() || found.is_some());
        assert_eq!(store.get(NODES, b"before").unwrap(), Some(b"kept".to_vec()));
        store.write(&put(NODES, b"after", b"goes on")).unwrap();
        drop(store);
        assert_eq!(on(&disk).get(NODES, b"doubtful").unwrap(), found, "the answer stays the same");
    }
}

#[test]
fn a_file_that_is_no_store_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("node.redb");
    std::fs::write(&path, "").unwrap();
    assert!(matches!(Store::open(&path, key(), Flush::Always), Err(OpenError::Empty)));
    for content in [b"no database".to_vec(), vec![0; 100_000]] {
        std::fs::write(&path, content).unwrap();
        let error = Store::open(&path, key(), Flush::Always).unwrap_err();
        assert!(matches!(error, OpenError::Damaged(_)), "{error:?}");
    }
    let error = Store::open(directory.path(), key(), Flush::Always).unwrap_err();
    assert!(matches!(error, OpenError::File(_)), "{error:?}");
}

/// A store with some rows and several commits in its file.
static FILLED: LazyLock<(FaultyDisk, Vec<Row>)> = LazyLock::new(|| {
    let disk = FaultyDisk::default();
    let store = on(&disk);
    for round in 0u8..20 {
        let mut batch = Batch::new();
        for row in 0u8..10 {
            batch.put(NODES, vec![row], vec![round; 200]);
        }
        store.write(&batch).unwrap();
    }
    let rows = store.scan(NODES, b"").unwrap();
    drop(store);
    (disk, rows)
});

/// Opening and reading either gives what was written or an error.
fn check_damaged(disk: FaultyDisk, rows: &[Row]) -> Result<(), TestCaseError> {
    let Ok(store) = Store::open_faulty(&disk, key()) else { return Ok(()) };
    if let Ok(found) = store.scan(NODES, b"") {
        for (key, value) in &found {
            let is_of_a_commit =
                rows.iter().any(|row| row.0 == *key) && value.iter().all(|byte| *byte == value[0]);
            prop_assert!(is_of_a_commit, "a value that was never written");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damage_is_an_error_and_never_a_panic_or_a_wrong_value(at in any::<prop::sample::Index>(), flip in 1u8..) {
        let (disk, rows) = &*FILLED;
        let at = at.index(disk.size() as usize);
        check_damaged(disk.with_byte(at, flip), rows)?;
    }

    #[test]
    fn damage_to_the_head_of_the_file_neither(at in 0usize..4096, flip in 1u8..) {
        let (disk, rows) = &*FILLED;
        check_damaged(disk.with_byte(at, flip), rows)?;
    }

    #[test]
    fn nor_is_a_file_that_was_cut_off(len in any::<prop::sample::Index>()) {
        let (disk, rows) = &*FILLED;
        let len = len.index(disk.size() as usize);
        check_damaged(disk.cut_at(len), rows)?;
    }

    #[test]
    fn acknowledged_batches_survive_a_loss_of_power(
        batches in 1u8..12,
        coins in prop::collection::vec(any::<bool>(), 64),
        flushes in 0u32..3,
    ) {
        let disk = FaultyDisk::default();
        let store = on(&disk);
        let batch = |number: u8| {
            let mut batch = Batch::new();
            batch.put(NODES, *b"last", vec![number]).put(OTHER, vec![number], vec![number; 3000]);
            batch
        };
        for number in 0..batches {
            store.write(&batch(number)).unwrap();
        }
        // The power goes while one more is written: any sector of what was not flushed may or may not be there.
        disk.limit_flushes(Some(flushes));
        let is_acknowledged = store.write(&batch(batches)).is_ok();
        let mut coin = coins.iter().cycle();
        let left = disk.after_power_loss(|| *coin.next().unwrap());
        let store = on(&left);
        let last = store.get(NODES, b"last").unwrap().unwrap()[0];
        prop_assert!(last == batches || last == batches - 1 && !is_acknowledged);
        let found: Vec<u8> = store.scan(OTHER, b"").unwrap().into_iter().map(|(key, _)| key[0]).collect();
        prop_assert_eq!(found, (0..=last).collect::<Vec<_>>(), "batches are whole");
    }
}
