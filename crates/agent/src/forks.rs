//! The snapshots that were made for clones alone, and which of them a call still works with.
//! It refuses to know whether clones wait for them: `reconcile::snapshots` looks.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hypercore_model::SnapshotName;
use tokio::sync::watch;

/// The temporary snapshots of a node. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Forks {
    /// By name, whether a call holds it.
    names: Arc<Mutex<BTreeMap<SnapshotName, bool>>>,
    /// Counts what was let go: look again.
    released: watch::Sender<u64>,
}

/// Keeps a temporary snapshot while clones of it are made.
#[derive(Debug)]
pub(crate) struct Hold {
    forks: Forks,
    name: SnapshotName,
}

impl Forks {
    /// Those that an earlier run of the agent left.
    pub(crate) fn left(names: impl Iterator<Item = SnapshotName>) -> Self {
        let forks = Self::default();
        forks.lock().extend(names.map(|name| (name, false)));
        forks
    }

    /// A snapshot that is about to be made.
    pub(crate) fn hold(&self, name: &SnapshotName) -> Hold {
        self.lock().insert(name.clone(), true);
        Hold { forks: self.clone(), name: name.clone() }
    }

    /// Those that no call holds.
    pub(crate) fn idle(&self) -> Vec<SnapshotName> {
        self.lock().iter().filter(|(_, is_held)| !**is_held).map(|(name, _)| name.clone()).collect()
    }

    /// One that is gone.
    pub(crate) fn forget(&self, name: &SnapshotName) {
        self.lock().remove(name);
    }

    /// Says "look again" when one was let go.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.released.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SnapshotName, bool>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.forks.lock().insert(self.name.clone(), false);
        self.forks.released.send_modify(|count| *count += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_call_holds_is_not_idle() {
        let name = |text: &str| text.parse::<SnapshotName>().unwrap();
        let forks = Forks::left([name("fork-a")].into_iter());
        let mut changes = forks.changes();
        changes.mark_unchanged();
        let hold = forks.hold(&name("fork-b"));
        assert_eq!(forks.idle(), [name("fork-a")]);
        drop(hold);
        assert!(changes.has_changed().unwrap());
        assert_eq!(forks.idle(), [name("fork-a"), name("fork-b")]);
        forks.forget(&name("fork-a"));
        assert_eq!(forks.idle(), [name("fork-b")]);
    }
}
