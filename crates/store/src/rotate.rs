//! New keys for an old store: [`Store::rotate`] seals everything anew, [`Store::rewrap`] changes only what unlocks it.
//! Pages that redb has freed may hold old records until they are used again; whoever must be sure of their end copies
//! the store to a new file.

use redb::{ReadableTable as _, TableHandle as _, WriteTransaction};

use crate::{
    key::WrappingKey,
    keyring::{Keyring, KeyringError},
    seal::{self, Place, RowError},
    store::{OpenError, Store, definition, open},
};

/// Why the keys are still the old ones.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// The store had an I/O error before, and can't be opened again.
    #[error("opening the store again failed")]
    Reopen(#[from] OpenError),
    /// A row can't be opened with the old key.
    #[error(transparent)]
    Row(#[from] RowError),
    /// The new keys can't be made or wrapped.
    #[error("making the new keys failed")]
    Keyring(#[from] KeyringError),
    /// The database refuses.
    #[error("writing with the new keys failed")]
    Write(#[from] redb::Error),
}

impl Store {
    /// Draws a new data key and seals every row with it, in one transaction. The old key is forgotten.
    /// Answers the new key's epoch.
    ///
    /// # Errors
    /// [`RotateError`]; the store is then as it was.
    pub fn rotate(&self) -> Result<u32, RotateError> {
        self.with_opened_mut(|opened, key| {
            let both = opened.keyring.with_new_epoch().map_err(KeyringError::from)?;
            let new = both.only_current();
            let transaction = opened.database.begin_write().map_err(redb::Error::from)?;
            reseal(&transaction, &both)?;
            open::write_keyring(&transaction, &new, &new.wrap(key)?)?;
            transaction.commit().map_err(redb::Error::from)?;
            opened.keyring = new;
            Ok(opened.keyring.current().0)
        })
    }

    /// Locks the store with another key file or passphrase. The data keys stay.
    ///
    /// # Errors
    /// [`RotateError`]; the store is then still locked as before.
    pub fn rewrap(&mut self, key: WrappingKey) -> Result<(), RotateError> {
        self.with_opened_mut(|opened, _| {
            let transaction = opened.database.begin_write().map_err(redb::Error::from)?;
            open::write_keyring(&transaction, &opened.keyring, &opened.keyring.wrap(&key)?)?;
            transaction.commit().map_err(redb::Error::from)?;
            Ok::<(), RotateError>(())
        })?;
        self.key = key;
        Ok(())
    }
}

fn reseal(transaction: &WriteTransaction, keyring: &Keyring) -> Result<(), RotateError> {
    let tables: Vec<String> = transaction
        .list_tables()
        .map_err(redb::Error::from)?
        .map(|table| table.name().to_owned())
        .filter(|name| name != open::KEYRING_TABLE)
        .collect();
    for table in &tables {
        let mut rows = transaction.open_table(definition(table)).map_err(redb::Error::from)?;
        let keys = rows
            .iter()
            .and_then(|rows| rows.map(|row| Ok(row?.0.value().to_vec())).collect::<Result<Vec<_>, _>>())
            .map_err(redb::Error::from)?;
        for key in &keys {
            let place = Place { table, key };
            let record = rows.get(key.as_slice()).map_err(redb::Error::from)?;
            let value = record.map(|record| seal::open(keyring, place, record.value())).transpose()?;
            let value = value.expect("the key was read in this very transaction");
            let record = seal::seal(keyring, place, &value).map_err(KeyringError::from)?;
            rows.insert(key.as_slice(), record.as_slice()).map_err(redb::Error::from)?;
        }
    }
    Ok(())
}
