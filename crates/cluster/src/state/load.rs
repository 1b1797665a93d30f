//! The state back from its stored rows. It refuses rows it can't read, rows that contradict each other, and rows
//! whose root is not the one the last block names: something then changed them behind the state's back.

use hypercore_model::{NodeId, TokenId, WorkloadId};
use serde::{Serialize, de::DeserializeOwned};

use crate::state::{
    State,
    block::{Root, Tip},
    record::{TokenRecord, WorkloadRecord},
    row::{self, Change, RemovalKey, Row, RowError, Table},
};

/// Why stored rows are no state.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A row can't be read.
    #[error("{table}: the row {key} can't be read")]
    Row {
        /// Its table.
        table: Table,
        /// Its key in hexadecimal digits.
        key: String,
        /// Why.
        #[source]
        source: RowError,
    },
    /// A row's key has the wrong length, or is not the key of what the row holds.
    #[error("{table}: {key} is not the key of its row")]
    Key {
        /// Its table.
        table: Table,
        /// The key in hexadecimal digits.
        key: String,
    },
    /// Two workloads have the same name.
    #[error("{table}: the row {key} has a name that another one has too", table = Table::Workloads)]
    NameTwice {
        /// The second row's key in hexadecimal digits.
        key: String,
    },
    /// There are rows, but no block that made them.
    #[error("there are rows of a state, but the last block is missing")]
    TipMissing,
    /// The rows are not those that the last block left.
    #[error("the rows of height {height} have the root {found}, but the last block says {expected}")]
    Root {
        /// The last block's height.
        height: u64,
        /// The root it names.
        expected: Root,
        /// The root the rows have.
        found: Root,
    },
}

impl State {
    /// Reads the state back from all its rows, in any order.
    ///
    /// # Errors
    /// [`LoadError`] when they are not exactly what the last block left.
    pub fn load<K, V>(rows: impl IntoIterator<Item = (Table, K, V)>) -> Result<Self, LoadError>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        let mut state = Self::new();
        for (table, key, value) in rows {
            let change = read_row(table, key.as_ref(), value.as_ref())?;
            if state.has_name_of(&change) {
                return Err(LoadError::NameTwice { key: hex::encode(key) });
            }
            state.absorb_one(&change);
        }
        let found = state.root();
        match state.tip {
            Some(Tip { root, .. }) if root == found => Ok(state),
            Some(Tip { height, root: expected, .. }) => Err(LoadError::Root { height, expected, found }),
            None if found == Self::new().root() => Ok(state),
            None => Err(LoadError::TipMissing),
        }
    }

    fn has_name_of(&self, change: &Change) -> bool {
        let Change::Workload(_, row) = change else { return false };
        row.record.spec.name.as_ref().is_some_and(|name| self.names.contains_key(name))
    }
}

fn read_row(table: Table, key: &[u8], value: &[u8]) -> Result<Change, LoadError> {
    let bad_key = || LoadError::Key { table, key: hex::encode(key) };
    Ok(match table {
        Table::Tip | Table::Cluster if !key.is_empty() => return Err(bad_key()),
        Table::Tip => Change::Tip(*read::<Tip>(table, key, value)?.record),
        Table::Cluster => Change::Cluster(read(table, key, value)?),
        Table::Nodes => {
            let id = NodeId::from_bytes(key.try_into().map_err(|_| bad_key())?);
            Change::Node(id, read(table, key, value)?)
        }
        Table::Workloads => {
            let id = WorkloadId::from_bytes(key.try_into().map_err(|_| bad_key())?);
            let row = read::<WorkloadRecord>(table, key, value)?;
            if row.record.id != id {
                return Err(bad_key());
            }
            Change::Workload(id, row)
        }
        Table::Removals => {
            let removal = RemovalKey::from_bytes(key.try_into().map_err(|_| bad_key())?);
            Change::Removal(removal, read(table, key, value)?)
        }
        Table::Tokens => {
            let id = TokenId::from_bytes(key.try_into().map_err(|_| bad_key())?);
            let row = read::<TokenRecord>(table, key, value)?;
            if row.record.id != id {
                return Err(bad_key());
            }
            Change::Token(id, row)
        }
    })
}

/// The digest is taken over what was stored, not over a new encoding: a later release may add fields with defaults,
/// and the root must still be the one that was agreed.
fn read<T: Serialize + DeserializeOwned>(
    table: Table,
    key: &[u8],
    value: &[u8],
) -> Result<Row<T>, LoadError> {
    let record =
        row::decode(value).map_err(|source| LoadError::Row { table, key: hex::encode(key), source })?;
    Ok(Row { record: std::sync::Arc::new(record), digest: *blake3::hash(value).as_bytes() })
}
