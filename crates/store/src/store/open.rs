//! How a store comes to be open: made under another name first, checked, unlocked. It refuses an empty file, which
//! would otherwise look like a store in which nothing was ever written.

use std::{collections::BTreeMap, fs, io, path::Path};

use redb::{
    Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, TableHandle as _, WriteTransaction,
};

use crate::{
    key::WrappingKey,
    keyring::{Keyring, KeyringError, Wrapped},
    medium::Medium,
    store::{OpenError, Opened, definition, is_disk_full},
};

/// The one table whose rows are not sealed: the store's id, its lock, and the wrapped data keys.
pub(crate) const KEYRING_TABLE: &str = "hypercore/keyring";
const ID_KEY: &[u8] = b"id";
const LOCK_KEY: &[u8] = b"lock";
const EPOCH_PREFIX: &[u8] = b"epoch/";

/// Opens what is on the medium, or makes a new store there.
pub(crate) fn open(medium: &Medium, key: &WrappingKey) -> Result<Opened, OpenError> {
    if let Medium::File { path, flush } = medium {
        match fs::metadata(path) {
            Ok(metadata) if metadata.len() == 0 => return Err(OpenError::Empty),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make(path, |beside| Medium::File { path: beside, flush: *flush }, key)?;
            }
            Err(error) => return Err(OpenError::File(redb::Error::Io(error))),
        }
    }
    open_existing(medium, key)
}

/// Makes a complete store beside `path` and then gives it its name, so that a crash leaves all of it or none.
fn make(
    path: &Path,
    at: impl FnOnce(std::path::PathBuf) -> Medium,
    key: &WrappingKey,
) -> Result<(), OpenError> {
    let file = |error| OpenError::File(redb::Error::Io(error));
    let beside = path.with_extension("new");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file(error)),
        _ => {}
    }
    drop(open_existing(&at(beside.clone()), key)?);
    fs::rename(&beside, path).map_err(file)?;
    let parent = path.parent().filter(|parent| *parent != "").unwrap_or(Path::new("."));
    fs::File::open(parent).and_then(|directory| directory.sync_all()).map_err(file)
}

fn open_existing(medium: &Medium, key: &WrappingKey) -> Result<Opened, OpenError> {
    let database = medium.open().map_err(classify)?;
    let keyring = match read_keyring(&database).map_err(damaged)? {
        Some((id, wrapped)) => Keyring::unwrap(id, &wrapped, key)?,
        None => make_keyring(&database, key)?,
    };
    Ok(Opened { database, keyring })
}

fn make_keyring(database: &Database, key: &WrappingKey) -> Result<Keyring, OpenError> {
    let keyring = Keyring::generate().map_err(KeyringError::from)?;
    let wrapped = keyring.wrap(key)?;
    let write = || -> Result<(), redb::Error> {
        let transaction = database.begin_write()?;
        write_keyring(&transaction, &keyring, &wrapped)?;
        Ok(transaction.commit()?)
    };
    write().map_err(|error| {
        if is_disk_full(&error) { OpenError::DiskFull(error) } else { OpenError::File(error) }
    })?;
    Ok(keyring)
}

/// Replaces the stored keyring, as part of a transaction.
pub(crate) fn write_keyring(
    transaction: &WriteTransaction,
    keyring: &Keyring,
    wrapped: &Wrapped,
) -> Result<(), redb::Error> {
    transaction.delete_table(definition(KEYRING_TABLE))?;
    let mut rows = transaction.open_table(definition(KEYRING_TABLE))?;
    rows.insert(ID_KEY, keyring.store_id().as_slice())?;
    rows.insert(LOCK_KEY, wrapped.lock.as_slice())?;
    for (epoch, key) in &wrapped.keys {
        rows.insert([EPOCH_PREFIX, &epoch.to_be_bytes()].concat().as_slice(), key.as_slice())?;
    }
    Ok(())
}

/// The stored keyring; `None` in a database that holds nothing at all.
fn read_keyring(database: &Database) -> Result<Option<([u8; 16], Wrapped)>, redb::Error> {
    let corrupted = |what: &str| redb::Error::Corrupted(format!("the keyring {what}"));
    let transaction = database.begin_read()?;
    let mut tables = transaction.list_tables()?.peekable();
    if tables.peek().is_none() {
        return Ok(None);
    }
    if !tables.any(|table| table.name() == KEYRING_TABLE) {
        return Err(corrupted("is missing"));
    }
    let rows = transaction.open_table(definition(KEYRING_TABLE))?;
    let (mut id, mut lock, mut keys) = (None, None, BTreeMap::new());
    for row in rows.iter()? {
        let (key, value) = row?;
        let value = value.value().to_vec();
        match key.value() {
            ID_KEY => id = <[u8; 16]>::try_from(value).ok(),
            LOCK_KEY => lock = Some(value),
            key => {
                let epoch = key.strip_prefix(EPOCH_PREFIX).and_then(|epoch| <[u8; 4]>::try_from(epoch).ok());
                let epoch = epoch.ok_or_else(|| corrupted("has an unknown row"))?;
                keys.insert(u32::from_be_bytes(epoch), value);
            }
        }
    }
    match (id, lock) {
        (Some(id), Some(lock)) => Ok(Some((id, Wrapped { lock, keys }))),
        _ => Err(corrupted("is incomplete")),
    }
}

fn classify(error: DatabaseError) -> OpenError {
    if matches!(error, DatabaseError::DatabaseAlreadyOpen) { OpenError::InUse } else { damaged(error.into()) }
}

/// Sorts the errors that redb reports alike: some are the file's content, others the disk's or the kernel's.
fn damaged(error: redb::Error) -> OpenError {
    match &error {
        redb::Error::Io(source) => match source.kind() {
            // What redb says of a file that isn't its own, or that ends too early.
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => OpenError::Damaged(error),
            _ if is_disk_full(&error) => OpenError::DiskFull(error),
            _ => OpenError::File(error),
        },
        _ => OpenError::Damaged(error),
    }
}
