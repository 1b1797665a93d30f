//! Takes down what was put up for a workload: between two runs, after the last, and when it is removed. It refuses to
//! fail: each step is tried even when another fails, and what remains is swept later.

use hypercore_cluster::state::WorkloadRecord;
use hypercore_runtime::{bundle, machine::snapshot::take_back};

use super::{Keeper, end::End, outcome};
use crate::{
    events::{Action, Event},
    failure::chain,
    gone,
};

impl Keeper {
    /// Takes down everything; logs and records stay.
    pub(super) async fn take_down(&self) {
        self.end_processes().await;
        // The kernel takes its time for links and mounts, and both can be waited for at once.
        let (detached, ()) = tokio::join!(self.node.network.detach(self.id), self.unmount());
        self.complain("detach it from the network", detached);
        self.remove_cgroup();
        outcome::forget(&[self.paths.surroundings()]);
    }

    /// Takes down what the next run gets anew. The files it wrote, its address and its ports stay.
    pub(super) async fn take_down_processes(&self) {
        self.end_processes().await;
        self.unmount().await;
        self.remove_cgroup();
    }

    async fn end_processes(&self) {
        self.thaw();
        self.complain("end its processes", self.node.sandboxes.destroy(self.id).await);
    }

    async fn unmount(&self) {
        let directory = self.paths.directory().to_owned();
        self.blocking("unmount its root", move || bundle::discard(&directory)).await;
        if self.paths.has_loan() {
            // Only its first run goes on from that; what it holds would keep the room of a removed snapshot.
            let directory = self.paths.directory().to_owned();
            self.blocking("take back what it was lent", move || take_back(&directory)).await;
        }
    }

    fn remove_cgroup(&self) {
        self.complain("remove its cgroup", self.node.cgroups.remove(self.id));
    }

    /// Does work on the disk that may take long, away from the threads that serve everybody.
    async fn blocking<E: std::error::Error + Send + 'static>(
        &self,
        what: &str,
        work: impl FnOnce() -> Result<(), E> + Send + 'static,
    ) {
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => self.complain(what, result),
            Err(error) => self.complain(what, Err::<(), _>(error)),
        }
    }

    pub(super) fn complain<T, E: std::error::Error>(&self, what: &str, result: Result<T, E>) {
        if let Err(error) = result {
            tracing::warn!(workload = %self.id, error = chain(&error), "could not {what}; it will be swept");
        }
    }

    /// The workload is no longer wanted: ends it if it still runs, and keeps its logs for a while.
    pub(super) async fn bury(&self, followed: Option<&WorkloadRecord>) {
        if let Some(sandbox) = self.node.board.get(self.id).and_then(|observed| observed.sandbox) {
            let end = End::of(self.kill(&sandbox).await, Some(sandbox.started_at()));
            if let Some(record) = followed {
                self.settle(record, end).await;
            }
        }
        self.take_down().await;
        let paths = self.paths.clone();
        self.blocking("remove its disks", move || gone::bury(&paths)).await;
        self.node.board.remove(self.id);
        if let Some(record) = followed {
            self.node.events.publish(Event::workload(Action::Removed, record));
        }
        tracing::info!(workload = %self.id, "removed");
    }
}
