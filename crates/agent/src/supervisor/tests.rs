//! The tree against its promises: what is restarted, what drains the node, what is reported, and that nothing is left.

use std::{
    io,
    sync::atomic::{AtomicU32, Ordering},
};

use super::*;

const DEADLINE: Duration = Duration::from_secs(10);

/// Fails the test when `what` doesn't come true in time.
async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("it took too long")
}

/// Counts its own runs, and fails, panics or ends as told.
fn counted(
    runs: &Arc<AtomicU32>,
    until: u32,
    end: fn(),
) -> impl FnMut() -> std::pin::Pin<Box<dyn Future<Output = Result<(), io::Error>> + Send>> + Send + 'static {
    let runs = Arc::clone(runs);
    move || {
        let run = runs.fetch_add(1, Ordering::SeqCst) + 1;
        Box::pin(async move {
            if run < until {
                end();
                return Err(io::Error::other("not yet"));
            }
            Ok(())
        })
    }
}

async fn until_empty(supervisor: &Supervisor) {
    within(async {
        while !supervisor.tasks.names().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_failure_and_a_panic_lead_to_another_start() {
    for end in [|| {}, || panic!("deliberate")] {
        let (supervisor, runs) = (Supervisor::new(), Arc::default());
        supervisor.spawn("worker", RestartPolicy::OnPanic, counted(&runs, 3, end));
        until_empty(&supervisor).await;
        assert_eq!(runs.load(Ordering::SeqCst), 3, "a normal end is the end");
    }
}

#[tokio::test]
async fn a_task_under_backoff_is_started_again_however_it_ends() {
    let (supervisor, runs) = (Supervisor::new(), Arc::default());
    supervisor.spawn("sweep", RestartPolicy::Backoff, counted(&runs, 0, || {}));
    within(async {
        while runs.load(Ordering::SeqCst) < 3 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(supervisor.tasks.names(), ["sweep"]);
    supervisor.shutdown(DEADLINE).await;
    assert!(supervisor.tasks.names().is_empty());
}

#[tokio::test]
async fn a_critical_tasks_end_is_told_by_name_however_it_comes() {
    for (end, until) in [((|| {}) as fn(), 0), (|| {}, 9), (|| panic!("deliberate"), 9)] {
        let (supervisor, runs) = (Supervisor::new(), Arc::default());
        supervisor.spawn("reconcile/workloads", RestartPolicy::Critical, counted(&runs, until, end));
        assert_eq!(within(supervisor.critical_ended()).await, "reconcile/workloads");
        assert_eq!(within(supervisor.critical_ended()).await, "reconcile/workloads", "it stays told");
        assert_eq!(runs.load(Ordering::SeqCst), 1);
    }
    let supervisor = Supervisor::new();
    supervisor.spawn_critical("server/grpc", async { Err(io::Error::other("no socket")) });
    assert_eq!(within(supervisor.critical_ended()).await, "server/grpc");
}

#[tokio::test]
async fn a_task_that_runs_once_is_not_missed() {
    let supervisor = Supervisor::new();
    let deliberate = || -> Result<(), io::Error> { panic!("deliberate") };
    supervisor.spawn_once("pull", async move { deliberate() });
    until_empty(&supervisor).await;
    let ended = tokio::time::timeout(Duration::ZERO, supervisor.critical_ended()).await;
    assert!(ended.is_err(), "it was not critical");
}

#[tokio::test]
async fn shutdown_drops_the_plain_tasks_before_the_draining_ones_are_asked() {
    let supervisor = Supervisor::new();
    let (dropped, seen) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(9)));
    struct OnDrop(Arc<AtomicU32>);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    for _ in 0..10 {
        let guard = OnDrop(Arc::clone(&dropped));
        supervisor.spawn_once("waits", async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        });
    }
    let (count, at_end) = (Arc::clone(&dropped), Arc::clone(&seen));
    supervisor.spawn_draining("ledger", |stop| async move {
        stop.cancelled().await;
        at_end.store(count.load(Ordering::SeqCst), Ordering::SeqCst);
    });
    within(supervisor.shutdown(DEADLINE)).await;
    assert_eq!(seen.load(Ordering::SeqCst), 10);
    assert!(supervisor.tasks.names().is_empty());
    let ended = tokio::time::timeout(Duration::ZERO, supervisor.critical_ended()).await;
    assert!(ended.is_err(), "an end during the shutdown is no fault");
    supervisor.spawn_once("late", std::future::pending::<()>());
    assert!(supervisor.tasks.names().is_empty(), "nothing is spawned any more");
}

#[tokio::test]
async fn what_does_not_end_in_time_is_aborted() {
    let supervisor = Supervisor::new();
    supervisor.spawn_draining("stubborn", |_| std::future::pending::<()>());
    within(supervisor.shutdown(Duration::from_millis(20))).await;
    assert!(supervisor.tasks.names().is_empty());
}
