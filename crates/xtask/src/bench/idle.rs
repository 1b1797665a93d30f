//! Row "agent idle": memory and CPU of a daemon that has nothing to do, alone and with a hundred workloads.
//!
//! It refuses to count the shims: those are in "per-container memory".

use std::time::{Duration, Instant};

use anyhow::Result;
use hypercore_fixtures::wait_until;

use super::table::Line;
use super::world::World;
use super::{crowd, procfs};
use crate::interrupt;

/// How long CPU time is counted; its clock ticks every 10 ms, so this resolves 0.05% of a core.
const WINDOW: Duration = Duration::from_secs(20);

/// Looks at both daemons, first without workloads, then with a crowd on each side.
///
/// # Errors
/// When a daemon is gone or the crowd can't be started.
pub(super) fn measure(world: &mut World) -> Result<Vec<Line>> {
    let mut lines = look(world, "alone")?;
    crowd::start_ours(world)?;
    crowd::start_peer(world)?;
    lines.extend(look(world, "100 workloads")?);
    crowd::clear_ours(world)?;
    world.peer.clear()?;
    Ok(lines)
}

fn look(world: &World, when: &str) -> Result<Vec<Line>> {
    let (ours, peer) = (world.node.agent_pid()?, world.peer.pid());
    let before = (procfs::cpu_time(ours)?, procfs::cpu_time(peer)?);
    let window = pass(WINDOW)?;
    let percent = |pid, before| -> Result<f64> {
        Ok((procfs::cpu_time(pid)? - before).as_secs_f64() / window.as_secs_f64() * 100.0)
    };
    let (our_cpu, peer_cpu) = (percent(ours, before.0)?, percent(peer, before.1)?);
    let (our_rss, peer_rss) = (procfs::rss_mib(ours)?, procfs::rss_mib(peer)?);
    let name = "containerd";
    let cpu = Line {
        what: format!("agent idle, {when}: CPU"),
        ours: format!("{our_cpu:.2}% of a core"),
        peer: format!("{name}: {peer_cpu:.2}%"),
        ratio: None,
        target: "<= 0.3%",
    };
    let what = format!("agent idle, {when}: RSS");
    Ok(vec![Line::amounts(&what, "MiB", our_rss, Some((name, peer_rss)), "<= 40 MiB"), cpu])
}

/// Lets time pass, which is what is measured here, and answers how much did.
fn pass(window: Duration) -> Result<Duration> {
    let start = Instant::now();
    wait_until(window, || interrupt::check().is_err().then_some(()));
    interrupt::check()?;
    Ok(start.elapsed())
}
