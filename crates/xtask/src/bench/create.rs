//! Row "container create": from the command typed to its process running, networked, its port published.
//!
//! It refuses to favour us: our side sets a network and a published port up, `ctr` sets up neither.

use anyhow::{Result, ensure};

use super::crowd;
use super::samples::Samples;
use super::table::Line;
use super::world::World;
use crate::node;

/// Enough for a 99th percentile.
const ROUNDS: usize = 200;

/// Creates containers on both sides in turn; each is removed, untimed, before the next.
///
/// # Errors
/// When a container doesn't run.
pub(super) fn measure(world: &mut World) -> Result<Vec<Line>> {
    let (mut ours, mut peer) = (Samples::default(), Samples::default());
    for round in 0..ROUNDS {
        let publish = format!("{}:8080", node::free_address()?.port());
        let (id, took) = world.run_ours(&["-p", &publish])?;
        ours.push(took);
        ensure!(crowd::running_ours(world)? == 1, "{id} doesn't run after run -d returned");
        world.remove_ours(&id)?;

        let id = format!("create-{round}");
        peer.push(world.run_peer(&id)?);
        world.peer.remove(&id)?;
    }
    let target = "p50 <= 15 ms, p99 <= 50 ms, <= 0.15x";
    Ok(vec![Line::times("container create", &ours, ("ctr run, no network", &peer), target)])
}
