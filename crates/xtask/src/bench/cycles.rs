//! A thousand workloads, one after the other: started, ended, removed. What the node takes of the machine afterwards
//! is what it took before.
//!
//! It refuses to pass with anything left: growth is an error that names what grew.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hypercore_fixtures::Footprint;

use super::{
    table::Line,
    world::{BRIDGE, World},
};
use crate::interrupt;

/// Cycles before it counts: until what is kept up to a bound is full, the 4,096 latest events above all.
const WARM_UP: usize = 1000;
/// Cycles that count.
const CYCLES: usize = 1000;
/// How much the agent's memory may grow over them. A leak of 3 KiB in each would be seen.
const RSS_GROWTH_KIB_MAX: u64 = 3 * 1024;
/// The kernel's time to take the last one's network away.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(20);

/// Runs the cycles.
///
/// # Errors
/// When one fails, or anything grew.
pub(super) fn measure(world: &mut World) -> Result<Vec<Line>> {
    cycle(world, WARM_UP)?;
    let (pid, directory) = (world.node.agent_pid()?, world.node.directory().to_owned());
    let before = Footprint::take(pid, &directory, BRIDGE).context("counting before")?;
    let start = Instant::now();
    cycle(world, CYCLES)?;
    let per_second = CYCLES as f64 / start.elapsed().as_secs_f64();
    let after = Footprint::settled(&before, SETTLE_TIME_MAX, pid, &directory, BRIDGE);
    let after = after.context("counting after")?;
    let grown = after.growth_since(&before, RSS_GROWTH_KIB_MAX);
    if !grown.is_empty() {
        bail!("{CYCLES} cycles left: {}", grown.join(", "));
    }
    let memory = Line {
        what: format!("{CYCLES} create/stop cycles: agent's RSS before -> after"),
        ours: format!("{:.1} -> {:.1} MiB", before.rss_kib as f64 / 1024.0, after.rss_kib as f64 / 1024.0),
        peer: "-".to_owned(),
        ratio: None,
        target: "no growth (3 MiB)",
    };
    let counts = after.counts().into_iter().zip(before.counts());
    let counts: Vec<_> = counts.map(|((name, now), (_, then))| format!("{name} {then} -> {now}")).collect();
    let rest = Line {
        what: format!("{CYCLES} create/stop cycles: everything else"),
        ours: counts.join(", "),
        peer: "-".to_owned(),
        ratio: None,
        target: "no growth",
    };
    let speed = Line::amounts("create/stop cycles, one at a time", "/s", per_second, None, "-");
    Ok(vec![memory, rest, speed])
}

fn cycle(world: &World, count: usize) -> Result<()> {
    for _ in 0..count {
        interrupt::check()?;
        let (id, _) = world.run_ours(&["-p", "8080"])?;
        world.remove_ours(&id)?;
    }
    Ok(())
}
