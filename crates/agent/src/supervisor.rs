//! The one place that spawns tasks: every task has a name, a rule for its end, and an end when the node goes down.
//! It refuses to lose a panic or an error: each is reported with the task's name.
//!
//! ```text
//!                     ends by itself      fails or panics
//!   Critical          the node drains     the node drains
//!   Backoff           again, later        again, later
//!   OnPanic           done                again, later
//!   spawn_once        done                done, and reported
//! ```
//!
//! Names are paths (`reconcile/workloads`, `keeper/1b4e28ba2fa1`): they are the tree that people see.

mod backoff;
mod table;

#[cfg(test)]
mod tests;

use std::{any::Any, error::Error, future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::failure::chain;
use backoff::Backoff;
use table::Table;

/// What follows from a task's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RestartPolicy {
    /// The node can't go on without it: [`Supervisor::critical_ended`] completes.
    Critical,
    /// It is made anew, however it ended.
    Backoff,
    /// It is made anew after a failure or a panic; its normal end is the end.
    OnPanic,
}

/// What a task may complete with: nothing, or a failure that is reported.
pub(crate) trait TaskOutput {
    /// Why it failed, if it did.
    fn failure(self) -> Option<Box<dyn Error + Send + Sync>>;
}

impl TaskOutput for () {
    fn failure(self) -> Option<Box<dyn Error + Send + Sync>> {
        None
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> TaskOutput for Result<(), E> {
    fn failure(self) -> Option<Box<dyn Error + Send + Sync>> {
        self.err().map(Into::into)
    }
}

/// The tree of tasks. Clones are the same tree.
#[derive(Debug, Clone)]
pub(crate) struct Supervisor {
    tasks: Arc<Table>,
    /// Ends what can be dropped at any await.
    stopping: CancellationToken,
    /// Asks the others to come to their end, once the first are gone.
    draining: CancellationToken,
    plain: TaskTracker,
    drained: TaskTracker,
    critical_end: watch::Sender<Option<String>>,
}

impl Supervisor {
    /// A tree without tasks.
    pub(crate) fn new() -> Self {
        Self {
            tasks: Arc::default(),
            stopping: CancellationToken::new(),
            draining: CancellationToken::new(),
            plain: TaskTracker::new(),
            drained: TaskTracker::new(),
            critical_end: watch::Sender::new(None),
        }
    }

    /// Spawns a task that `make` can make again. At shutdown it is dropped at its next await: whatever must not be
    /// cut short there belongs into the ledger, or on disk under another name first.
    pub(crate) fn spawn<F>(
        &self,
        name: impl Into<String>,
        policy: RestartPolicy,
        mut make: impl FnMut() -> F + Send + 'static,
    ) where
        F: Future<Output: TaskOutput> + Send + 'static,
    {
        let (name, tree) = (name.into(), self.clone());
        self.launch(&self.plain, name.clone(), async move {
            let mut backoff = Backoff::new();
            loop {
                let begun = tokio::time::Instant::now();
                let end = tokio::select! {
                    biased;
                    () = tree.stopping.cancelled() => return,
                    end = observe(make()) => end,
                };
                tree.report(&name, &end);
                match (policy, &end) {
                    (RestartPolicy::Critical, _) => return tree.mourn(&name),
                    (RestartPolicy::OnPanic, End::Done) => return,
                    (RestartPolicy::Backoff | RestartPolicy::OnPanic, _) => {}
                }
                let pause = backoff.after(begun.elapsed());
                tracing::info!(task = name, pause_ms = pause.as_millis(), "the task will be started again");
                tokio::select! {
                    () = tree.stopping.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
            }
        });
    }

    /// Spawns a task that is never made again. At shutdown it is dropped at its next await.
    pub(crate) fn spawn_once<F>(&self, name: impl Into<String>, task: F)
    where
        F: Future<Output: TaskOutput> + Send + 'static,
    {
        let (name, tree) = (name.into(), self.clone());
        self.launch(&self.plain, name.clone(), async move {
            tokio::select! {
                biased;
                () = tree.stopping.cancelled() => {}
                end = observe(task) => tree.report(&name, &end),
            }
        });
    }

    /// Spawns a task that the node can't go on without and that can't be made again, such as a listener.
    /// At shutdown it is dropped at its next await.
    pub(crate) fn spawn_critical<F>(&self, name: impl Into<String>, task: F)
    where
        F: Future<Output: TaskOutput> + Send + 'static,
    {
        let (name, tree) = (name.into(), self.clone());
        self.launch(&self.plain, name.clone(), async move {
            tokio::select! {
                biased;
                () = tree.stopping.cancelled() => {}
                end = observe(task) => {
                    tree.report(&name, &end);
                    tree.mourn(&name);
                }
            }
        });
    }

    /// Spawns a critical task that must come to its end by itself: at shutdown, when all the others are gone, the
    /// token it was given is cancelled, and it is waited for until the deadline.
    pub(crate) fn spawn_draining<F>(&self, name: impl Into<String>, make: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output: TaskOutput> + Send + 'static,
    {
        let (name, tree) = (name.into(), self.clone());
        let task = make(self.draining.clone());
        self.launch(&self.drained, name.clone(), async move {
            let end = observe(task).await;
            if !tree.draining.is_cancelled() || !matches!(end, End::Done) {
                tree.report(&name, &end);
            }
            if !tree.draining.is_cancelled() {
                tree.mourn(&name);
            }
        });
    }

    /// Completes with the name of the first critical task that ended before the shutdown.
    pub(crate) async fn critical_ended(&self) -> String {
        let mut ends = self.critical_end.subscribe();
        match ends.wait_for(Option::is_some).await {
            Ok(name) => name.clone().expect("it was waited for"),
            // The sender lives in `self`.
            Err(_) => std::future::pending().await,
        }
    }

    /// Ends every task: first those that can be dropped, then the draining ones. What is left after `time_max` is
    /// aborted, and reported by name.
    pub(crate) async fn shutdown(&self, time_max: Duration) {
        let deadline = tokio::time::Instant::now() + time_max;
        self.plain.close();
        self.drained.close();
        self.stopping.cancel();
        // A task that computes without an await ignores being dropped; the others are gone at once.
        let plain_gone = tokio::time::timeout_at(deadline, self.plain.wait()).await;
        self.draining.cancel();
        let drained_gone = tokio::time::timeout_at(deadline, self.drained.wait()).await;
        if plain_gone.is_err() || drained_gone.is_err() {
            let names: Vec<String> = self.tasks.abort_all();
            tracing::warn!(tasks = names.join(", "), "aborting tasks that did not end in time");
        }
    }

    fn launch(&self, tracker: &TaskTracker, name: String, task: impl Future<Output = ()> + Send + 'static) {
        if self.stopping.is_cancelled() {
            tracing::debug!(task = name, "not spawned: the node goes down");
            return;
        }
        let id = self.tasks.insert(name);
        let tasks = Arc::clone(&self.tasks);
        let task = tracker.track_future(async move {
            // Removed also when the task is aborted.
            let _entry = tasks.entry(id);
            task.await;
        });
        #[allow(
            clippy::disallowed_methods,
            reason = "this is the supervision tree: the one place that spawns"
        )]
        let handle = tokio::spawn(task);
        self.tasks.attach(id, handle.abort_handle());
    }

    fn report(&self, name: &str, end: &End) {
        match end {
            End::Done => tracing::debug!(task = name, "the task is done"),
            End::Failed(error) => tracing::error!(task = name, error = chain(&**error), "the task failed"),
            End::Panicked(message) => tracing::error!(task = name, panic = message, "the task panicked"),
        }
    }

    fn mourn(&self, name: &str) {
        self.critical_end.send_if_modified(|end| {
            let is_first = end.is_none();
            end.get_or_insert_with(|| name.to_owned());
            is_first
        });
    }
}

/// How a task came to its end.
enum End {
    Done,
    Failed(Box<dyn Error + Send + Sync>),
    Panicked(String),
}

/// Runs a task to its end. A panic is caught: what the task shared is behind locks that tolerate poisoning, or it was
/// the task's own.
async fn observe(task: impl Future<Output: TaskOutput>) -> End {
    match AssertUnwindSafe(task).catch_unwind().await {
        Ok(output) => output.failure().map_or(End::Done, End::Failed),
        Err(panic) => End::Panicked(panic_message(&*panic)),
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
