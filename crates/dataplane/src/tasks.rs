//! The tasks of one connection, or of one ingress: they end with whoever started them.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use hyper::rt::Executor;
use tokio::task::JoinSet;

/// A set of tasks. Clones are the same set; [`Tasks::abort`] ends it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl Tasks {
    /// Ends every task of the set.
    pub(crate) fn abort(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        let mut set = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that have ended would otherwise be kept until the end of the set.
        while set.try_join_next().is_some() {}
        set.spawn(task);
    }
}
