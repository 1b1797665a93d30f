//! Many containers at once on both sides, started twenty at a time.
//!
//! It refuses to lose one: fewer than asked for is an error.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::world::{World, timed};
use crate::shell;

/// How many.
pub(super) const CROWD: usize = 100;
/// How many commands run at the same time.
const AT_A_TIME: usize = 20;

/// Starts the crowd on our side and answers how long that took.
///
/// # Errors
/// When one doesn't run.
pub(super) fn start_ours(world: &World) -> Result<Duration> {
    let ((), took) = timed(|| in_parallel(|_| world.run_ours(&[]).map(drop)))?;
    let running = running_ours(world)?;
    ensure!(running == CROWD, "{running} of {CROWD} containers run");
    Ok(took)
}

/// How many of our containers run.
///
/// # Errors
/// When the agent doesn't answer.
pub(super) fn running_ours(world: &World) -> Result<usize> {
    let list = shell::read(&mut world.node.command(&["ps", "--json"]))?;
    let list: Vec<Value> = serde_json::from_str(&list).context("reading ps --json")?;
    Ok(list.iter().filter(|workload| workload["status"] == "running").count())
}

/// Removes all of our containers.
///
/// # Errors
/// When one can't be removed.
pub(super) fn clear_ours(world: &World) -> Result<()> {
    for id in shell::read(&mut world.node.command(&["ps", "-a", "-q"]))?.lines() {
        world.remove_ours(id)?;
    }
    Ok(())
}

/// Starts the crowd on the peer's side and answers how long that took.
///
/// # Errors
/// When one doesn't run.
pub(super) fn start_peer(world: &World) -> Result<Duration> {
    let ((), took) = timed(|| in_parallel(|index| world.run_peer(&format!("crowd-{index}")).map(drop)))?;
    Ok(took)
}

/// Calls `work` with every index below [`CROWD`] from [`AT_A_TIME`] threads.
fn in_parallel(work: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    let worker = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= CROWD {
                return Ok(());
            }
            work(index)?;
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|one| one.join().expect("a worker doesn't panic"))
    })
}
