//! What is written together: puts and deletes over any tables. It refuses to read.

/// A list of puts and deletes that is written completely or not at all. Later ones win over earlier ones.
#[derive(Clone, Default)]
pub struct Batch {
    pub(crate) operations: Vec<Operation>,
}

#[derive(Clone)]
pub(crate) struct Operation {
    pub(crate) table: &'static str,
    pub(crate) key: Vec<u8>,
    /// `None` deletes.
    pub(crate) value: Option<Vec<u8>>,
}

impl Batch {
    /// Nothing to write yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a row's value.
    pub fn put(
        &mut self,
        table: &'static str,
        key: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
    ) -> &mut Self {
        self.operations.push(Operation { table, key: key.into(), value: Some(value.into()) });
        self
    }

    /// Deletes a row. It need not exist.
    pub fn delete(&mut self, table: &'static str, key: impl Into<Vec<u8>>) -> &mut Self {
        self.operations.push(Operation { table, key: key.into(), value: None });
        self
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }
}

impl std::fmt::Debug for Batch {
    /// Values stay out: what is sealed on disk should not be found in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("operations", &self.operations.len()).finish_non_exhaustive()
    }
}
