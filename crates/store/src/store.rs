//! The store itself: opened once, written in batches, read row by row. It refuses to interpret values, and to go on
//! with a database that had an I/O error: that one is closed, and opened again for the next call.

use std::sync::{PoisonError, RwLock};

use redb::{Database, Durability, ReadableDatabase as _, TableDefinition, TableError};

use crate::{
    batch::Batch,
    key::WrappingKey,
    keyring::{Keyring, KeyringError},
    medium::{Flush, Medium},
    seal::{self, Place, RowError},
};

pub(crate) mod open;

#[cfg(test)]
mod tests;

/// Why a store can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another part of this one, has it open.
    #[error("the store is in use already")]
    InUse,
    /// The disk has no room for it.
    #[error("the disk is full")]
    DiskFull(#[source] redb::Error),
    /// The file is no store, or its pages are damaged.
    #[error("the store is damaged: restore it from a backup, or move it away to begin anew")]
    Damaged(#[source] redb::Error),
    /// The file is there, but empty: a store never is.
    #[error("the store is empty: restore it from a backup, or remove the file to begin anew")]
    Empty,
    /// Its data keys can't be had.
    #[error("the store can't be unlocked")]
    Keyring(#[from] KeyringError),
    /// The file can't be reached, made or written.
    #[error("the store's file can't be used")]
    File(#[source] redb::Error),
}

/// Why a row can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store had an I/O error before, and can't be opened again.
    #[error("opening the store again failed")]
    Reopen(#[from] OpenError),
    /// The table can't be read.
    #[error("reading the table {table} failed")]
    Table {
        /// Which table.
        table: String,
        /// What the database says.
        #[source]
        source: redb::Error,
    },
    /// The row can't be opened.
    #[error(transparent)]
    Row(#[from] RowError),
}

/// Why a batch was not written. Unless it is [`WriteError::Commit`] or [`WriteError::DiskFull`], nothing of it was;
/// for those two, reading tells.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The store had an I/O error before, and can't be opened again.
    #[error("opening the store again failed")]
    Reopen(#[from] OpenError),
    /// The disk is full.
    #[error("the disk is full")]
    DiskFull(#[source] redb::Error),
    /// The transaction can't begin.
    #[error("beginning a transaction failed")]
    Begin(#[source] redb::Error),
    /// A row can't be put or deleted.
    #[error("writing to the table {table} failed")]
    Table {
        /// Which table.
        table: String,
        /// What the database says.
        #[source]
        source: redb::Error,
    },
    /// The transaction can't be ended.
    #[error("committing the transaction failed")]
    Commit(#[source] redb::Error),
    /// The kernel gives no random bytes.
    #[error("the kernel gives no random bytes")]
    Entropy(#[from] getrandom::Error),
}

/// A table of sealed rows, as redb knows it.
pub(crate) const fn definition(name: &str) -> TableDefinition<'_, &'static [u8], &'static [u8]> {
    TableDefinition::new(name)
}

/// A row as it is read: its key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// Sealed storage in one file or in memory.
#[derive(Debug)]
pub struct Store {
    medium: Medium,
    pub(crate) key: WrappingKey,
    opened: RwLock<Option<Opened>>,
}

#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) database: Database,
    pub(crate) keyring: Keyring,
}

impl Store {
    /// Opens the store in the file at `path`, or makes a new one there that `key` unlocks from then on.
    ///
    /// Every page is checked, which reads the file once. After a crash the last complete batch is found.
    ///
    /// # Errors
    /// [`OpenError`] when the file is in use, damaged, or not unlocked by `key`.
    pub fn open(path: &std::path::Path, key: WrappingKey, flush: Flush) -> Result<Self, OpenError> {
        Self::open_on(Medium::File { path: path.to_owned(), flush }, key)
    }

    /// A new store in memory, which is gone when it is dropped.
    ///
    /// # Errors
    /// [`OpenError`] when the kernel gives no random bytes.
    pub fn open_in_memory() -> Result<Self, OpenError> {
        let mut key = [0u8; 32];
        getrandom::fill(&mut key).map_err(KeyringError::from)?;
        Self::open_on(Medium::Memory, WrappingKey::from_bytes(key))
    }

    /// The store on a disk that fails on demand, for the tests of those who keep something in a store.
    ///
    /// # Errors
    /// As [`Store::open`].
    #[cfg(any(test, feature = "faulty"))]
    pub fn open_faulty(disk: &crate::faulty::FaultyDisk, key: WrappingKey) -> Result<Self, OpenError> {
        Self::open_on(Medium::Faulty(disk.clone()), key)
    }

    fn open_on(medium: Medium, key: WrappingKey) -> Result<Self, OpenError> {
        let opened = open::open(&medium, &key)?;
        Ok(Self { medium, key, opened: RwLock::new(Some(opened)) })
    }

    /// Writes a batch. When it returns, the batch is complete and survives the death of this process, and that of the
    /// machine if the store was opened with [`Flush::Always`].
    ///
    /// # Errors
    /// [`WriteError`], naming the step. After it the store can be used on: when the cause is gone, writing works again.
    pub fn write(&self, batch: &Batch) -> Result<(), WriteError> {
        self.write_with(batch, Durability::Immediate)
    }

    /// Writes a batch that need not last yet: it is seen by every later read, and lasts once a later [`Store::write`]
    /// returns. For those who keep a log of their own and could write it again.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn write_deferred(&self, batch: &Batch) -> Result<(), WriteError> {
        self.write_with(batch, Durability::None)
    }

    fn write_with(&self, batch: &Batch, durability: Durability) -> Result<(), WriteError> {
        let result = self.with_opened(|opened| write_batch(opened, batch, durability));
        if let Err(
            WriteError::DiskFull(_) | WriteError::Begin(_) | WriteError::Commit(_) | WriteError::Table { .. },
        ) = &result
        {
            self.close();
        }
        result
    }

    /// A row's value; `None` when there is no such row.
    ///
    /// # Errors
    /// [`ReadError`] when the row can't be read, or was changed behind the store's back.
    pub fn get(&self, table: &str, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        let row = |source: redb::Error| ReadError::Table { table: table.to_owned(), source };
        self.with_opened(|opened| {
            let transaction = opened.database.begin_read().map_err(|error| row(error.into()))?;
            let rows = match transaction.open_table(definition(table)) {
                Err(TableError::TableDoesNotExist(_)) => return Ok(None),
                rows => rows.map_err(|error| row(error.into()))?,
            };
            let Some(record) = rows.get(key).map_err(|error| row(error.into()))? else { return Ok(None) };
            Ok(Some(seal::open(&opened.keyring, Place { table, key }, record.value())?))
        })
    }

    /// Every row of a table whose key begins with `prefix`, in the order of keys.
    /// The empty prefix gives the whole table. A table that was never written is empty.
    ///
    /// # Errors
    /// [`ReadError`] when a row can't be read, or was changed behind the store's back.
    pub fn scan(&self, table: &str, prefix: &[u8]) -> Result<Vec<Row>, ReadError> {
        let row = |source: redb::Error| ReadError::Table { table: table.to_owned(), source };
        self.with_opened(|opened| {
            let transaction = opened.database.begin_read().map_err(|error| row(error.into()))?;
            let rows = match transaction.open_table(definition(table)) {
                Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                rows => rows.map_err(|error| row(error.into()))?,
            };
            let mut found = Vec::new();
            for entry in rows.range(prefix..).map_err(|error| row(error.into()))? {
                let (key, record) = entry.map_err(|error| row(error.into()))?;
                let key = key.value();
                if !key.starts_with(prefix) {
                    break;
                }
                found
                    .push((key.to_vec(), seal::open(&opened.keyring, Place { table, key }, record.value())?));
            }
            Ok(found)
        })
    }

    /// Runs `run` on the open database, opening it first when an error has closed it.
    fn with_opened<T, E: From<OpenError>>(&self, run: impl FnOnce(&Opened) -> Result<T, E>) -> Result<T, E> {
        {
            let guard = self.opened.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(opened) = &*guard {
                return run(opened);
            }
        }
        run(self.reopen(&mut self.opened.write().unwrap_or_else(PoisonError::into_inner))?)
    }

    /// The same for those who replace the keyring.
    pub(crate) fn with_opened_mut<T, E: From<OpenError>>(
        &self,
        run: impl FnOnce(&mut Opened, &WrappingKey) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut guard = self.opened.write().unwrap_or_else(PoisonError::into_inner);
        self.reopen(&mut guard)?;
        let result = run(guard.as_mut().expect("it was opened"), &self.key);
        if result.is_err() && self.medium.is_lasting() {
            *guard = None;
        }
        result
    }

    fn reopen<'a>(&self, guard: &'a mut Option<Opened>) -> Result<&'a mut Opened, OpenError> {
        match guard {
            Some(opened) => Ok(opened),
            None => Ok(guard.insert(open::open(&self.medium, &self.key)?)),
        }
    }

    /// Closes a database that had an I/O error: redb refuses to use it on. Memory has none, and would be lost.
    fn close(&self) {
        if self.medium.is_lasting() {
            *self.opened.write().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}

fn write_batch(opened: &Opened, batch: &Batch, durability: Durability) -> Result<(), WriteError> {
    let fail = |error: redb::Error, step: fn(redb::Error) -> WriteError| {
        if is_disk_full(&error) { WriteError::DiskFull(error) } else { step(error) }
    };
    let mut transaction =
        opened.database.begin_write().map_err(|error| fail(error.into(), WriteError::Begin))?;
    transaction.set_durability(durability).map_err(|error| fail(error.into(), WriteError::Begin))?;
    for operation in &batch.operations {
        let (table, key) = (operation.table, operation.key.as_slice());
        let failed = |source: redb::Error| {
            if is_disk_full(&source) {
                WriteError::DiskFull(source)
            } else {
                WriteError::Table { table: table.to_owned(), source }
            }
        };
        let mut rows = transaction.open_table(definition(table)).map_err(|error| failed(error.into()))?;
        match &operation.value {
            Some(value) => {
                let record = seal::seal(&opened.keyring, Place { table, key }, value)?;
                rows.insert(key, record.as_slice()).map_err(|error| failed(error.into()))?;
            }
            None => {
                rows.remove(key).map_err(|error| failed(error.into()))?;
            }
        }
    }
    transaction.commit().map_err(|error| fail(error.into(), WriteError::Commit))
}

pub(crate) fn is_disk_full(error: &redb::Error) -> bool {
    use std::io::ErrorKind;
    let redb::Error::Io(error) = error else { return false };
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}
