//! Row "agent restart": kill -9 of an agent with a hundred workloads, until a new one is in control of all.
//!
//! It refuses to call it control before every workload is listed as running and one has executed a command.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hypercore_fixtures::wait_until;

use super::crowd::{self, CROWD};
use super::table::Line;
use super::world::World;
use crate::shell;

const ROUNDS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(60);

/// Kills and restarts the agent some times over one crowd.
///
/// # Errors
/// When the agent doesn't come back in control.
pub(super) fn measure(world: &mut World) -> Result<Vec<Line>> {
    crowd::start_ours(world)?;
    let mut worst = Duration::ZERO;
    for _ in 0..ROUNDS {
        world.node.kill_agent()?;
        let start = Instant::now();
        world.node.start()?;
        let back = wait_until(PATIENCE, || (crowd::running_ours(world).ok()? == CROWD).then_some(()));
        ensure!(back.is_some(), "{} of {CROWD} workloads run after the restart", crowd::running_ours(world)?);
        let ids = shell::read(&mut world.node.command(&["ps", "-q"]))?;
        let last = ids.lines().last().unwrap_or_default();
        shell::read(&mut world.node.command(&["exec", last, "--", "true"]))?;
        worst = worst.max(start.elapsed());
    }
    crowd::clear_ours(world)?;
    Ok(vec![Line {
        what: format!("agent restart, 100 workloads, worst of {ROUNDS}"),
        ours: format!("{:.0} ms, 0 lost", worst.as_secs_f64() * 1000.0),
        peer: "-".to_owned(),
        ratio: None,
        target: "<= 1 s, 0 lost",
    }])
}
