//! Which tasks exist now. It refuses to keep those that ended.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::task::AbortHandle;

/// Tasks by the order of their spawning.
#[derive(Debug, Default)]
pub(super) struct Table(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    last_id: u64,
    tasks: BTreeMap<u64, Task>,
}

#[derive(Debug)]
struct Task {
    name: String,
    abort: Option<AbortHandle>,
}

/// Removes its task from the table when it is dropped.
pub(super) struct Entry<'a> {
    table: &'a Table,
    id: u64,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.table.lock().tasks.remove(&self.id);
    }
}

impl Table {
    /// Notes a task that will run.
    pub(super) fn insert(&self, name: String) -> u64 {
        let mut entries = self.lock();
        entries.last_id += 1;
        let id = entries.last_id;
        entries.tasks.insert(id, Task { name, abort: None });
        id
    }

    /// The running task's hold on its entry.
    pub(super) const fn entry(&self, id: u64) -> Entry<'_> {
        Entry { table: self, id }
    }

    /// Notes how to abort a task. It may have ended already.
    pub(super) fn attach(&self, id: u64, abort: AbortHandle) {
        if let Some(task) = self.lock().tasks.get_mut(&id) {
            task.abort = Some(abort);
        }
    }

    #[cfg(test)]
    pub(super) fn names(&self) -> Vec<String> {
        self.lock().tasks.values().map(|task| task.name.clone()).collect()
    }

    /// Aborts what is left. Answers the names.
    pub(super) fn abort_all(&self) -> Vec<String> {
        let tasks = std::mem::take(&mut self.lock().tasks);
        for task in tasks.values() {
            if let Some(abort) = &task.abort {
                abort.abort();
            }
        }
        tasks.into_values().map(|task| task.name).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
