//! Row "per-container memory": what a container costs beside its own process, at a hundred of them.
//!
//! It refuses to count the workload itself: its own memory is measured and taken off on both sides.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::crowd::{self, CROWD};
use super::procfs;
use super::table::Line;
use super::world::World;

/// What each container runs; busybox goes by the name it was called with.
const WORKLOAD: &str = "sleep 1000000";

/// What was found on one side.
struct Side {
    shim_mib: f64,
    total_mib: f64,
    per_second: f64,
}

/// Starts a crowd on each side, one after the other, and looks at the machine's memory before and after.
///
/// # Errors
/// When containers don't run or their shims can't be found.
pub(super) fn measure(world: &mut World) -> Result<Vec<Line>> {
    let at = world.node.directory().to_string_lossy().into_owned();
    let ours = side(&["hypercore-shim", &at], || crowd::start_ours(world))?;
    crowd::clear_ours(world)?;
    let socket = world.peer.socket().to_string_lossy().into_owned();
    let peer = side(&["containerd-shim-runc-v2", &socket], || crowd::start_peer(world))?;
    world.peer.clear()?;
    let name = "containerd";
    Ok(vec![
        Line::amounts("shim, PSS", "MiB", ours.shim_mib, Some((name, peer.shim_mib)), "<= 1.5 MiB"),
        Line::amounts(
            "whole host, per container",
            "MiB",
            ours.total_mib,
            Some((name, peer.total_mib)),
            "<= 2.5 MiB",
        ),
        Line::amounts(
            "100 containers, 20 at a time",
            "/s",
            ours.per_second,
            Some((name, peer.per_second)),
            ">= 100/s",
        ),
    ])
}

fn side(shim: &[&str], start: impl FnOnce() -> Result<Duration>) -> Result<Side> {
    let before = procfs::available_mib()?;
    let took = start()?;
    let after = procfs::available_mib()?;
    let shims = procfs::processes(shim)?;
    ensure!(shims.len() == CROWD, "{} processes look like {shim:?}, not {CROWD}", shims.len());
    let workloads = procfs::processes(&[WORKLOAD])?;
    let workload_mib = mean_pss(&workloads)?;
    Ok(Side {
        shim_mib: mean_pss(&shims)?,
        total_mib: (before - after) / CROWD as f64 - workload_mib,
        per_second: CROWD as f64 / took.as_secs_f64(),
    })
}

fn mean_pss(pids: &[u32]) -> Result<f64> {
    let total = pids.iter().map(|pid| procfs::pss_mib(*pid)).sum::<Result<f64>>();
    Ok(total.context("measuring processes")? / pids.len() as f64)
}
