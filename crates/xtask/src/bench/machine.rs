//! The rows about microVMs: boot, resume, exec, memory, many at once. The peer is QEMU by hand: the very command line
//! that our own machine runs with, read from /proc, on files of its own.
//!
//! ```text
//!   hypercore run -d --isolation microvm      [CLI, agent, shim, monitor] --> QEMU --> guest answers --> first process
//!   Hand::boot                                                                QEMU --> guest answers
//! ```
//!
//! It refuses to compare accelerators: both sides run with what the node chose, and the table says what that was.

mod hand;

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{
    procfs,
    samples::Samples,
    table::Line,
    world::{World, timed},
};
use crate::{interrupt, shell};
use hand::Hand;

/// Boots on each side; one takes seconds.
const BOOTS: usize = 30;
/// Commands on each side.
const COMMANDS: usize = 200;
/// How many machines are begun at once.
const CROWD: usize = 20;
/// What makes a workload a microVM with little memory.
const FLAGS: [&str; 4] = ["--isolation", "microvm", "--memory", "256MiB"];

/// Boots machines in turn with booting them by hand; and looks when QEMU begins.
///
/// # Errors
/// When one doesn't come up.
pub(super) fn boot(world: &mut World) -> Result<Vec<Line>> {
    let (id, _) = world.run_ours(&FLAGS)?;
    let hand = Hand::like(&id)?;
    let accelerated = hand.accelerator();
    world.remove_ours(&id)?;
    let (mut part, mut whole, mut by_hand) = (Samples::default(), Samples::default(), Samples::default());
    for _ in 0..BOOTS {
        let (told, took, id) = run_watched(world)?;
        world.remove_ours(&id)?;
        part.push(told);
        whole.push(took);
        by_hand.push(hand.boot()?);
    }
    let peer = format!("QEMU by hand ({accelerated}), until its guest answers");
    Ok(vec![
        Line {
            what: "microVM, our part: command typed to QEMU started".to_owned(),
            ours: part.to_string(),
            peer: "-".to_owned(),
            ratio: None,
            target: "<= 15 ms",
        },
        Line::times("microVM, run -d until its process runs", &whole, (&peer, &by_hand), "<= 1.03x"),
        Line {
            what: "microVM with KVM, request to user code".to_owned(),
            ours: if accelerated == "kvm" { whole.to_string() } else { "pending: no KVM here".to_owned() },
            peer: "-".to_owned(),
            ratio: None,
            target: "<= 125 ms",
        },
    ])
}

/// Restores a snapshot again and again, beside cold boots.
///
/// # Errors
/// When one doesn't come up.
pub(super) fn resume(world: &mut World) -> Result<Vec<Line>> {
    const NAME: &str = "bench-resume";
    let (id, _) = world.run_ours(&FLAGS)?;
    let ((), snapshot) = timed(|| shell::read(&mut world.node.command(&["snapshot", &id, NAME])).map(drop))?;
    world.remove_ours(&id)?;
    let (mut resumed, mut booted) = (Samples::default(), Samples::default());
    for _ in 0..BOOTS {
        let (id, took) = timed(|| shell::read(&mut world.node.command(&["restore", NAME])))?;
        world.remove_ours(id.trim())?;
        resumed.push(took);
        let (id, took) = world.run_ours(&FLAGS)?;
        world.remove_ours(&id)?;
        booted.push(took);
    }
    let (id, _) = world.run_ours(&FLAGS)?;
    let (ids, fork) = timed(|| shell::read(&mut world.node.command(&["fork", &id, "-n", "4"])))?;
    ids.split_whitespace().chain([id.as_str()]).try_for_each(|id| world.remove_ours(id))?;
    shell::read(&mut world.node.command(&["snapshots", "rm", NAME]))?;
    let once = |what: &str, took: Duration| Line {
        what: what.to_owned(),
        ours: format!("{:.0} ms (once)", took.as_secs_f64() * 1000.0),
        peer: "-".to_owned(),
        ratio: None,
        target: "-",
    };
    Ok(vec![
        Line::times("microVM, restore until it runs", &resumed, ("cold boot", &booted), "<= 0.10x"),
        once("microVM, snapshot", snapshot),
        once("microVM, fork into 4 that run", fork),
    ])
}

/// Executes `echo` from outside, and has a shell inside execute it.
///
/// # Errors
/// When a command doesn't answer.
pub(super) fn exec(world: &mut World) -> Result<Vec<Line>> {
    let (id, _) = world.run_ours(&FLAGS)?;
    let mut ours = Samples::default();
    for _ in 0..COMMANDS {
        let mut command = world.node.command(&["exec", &id, "--", "/bin/echo", "x"]);
        ours.push(super::exec::first_byte(&mut command)?);
    }
    // /proc/uptime counts in hundredths of a second: enough for the mean of many.
    let script = format!(
        "read a b </proc/uptime; i=0; while [ $i -lt {COMMANDS} ]; do /bin/echo x >/dev/null; i=$((i+1)); done; \
         read c d </proc/uptime; echo $a $c"
    );
    let times = shell::read(&mut world.node.command(&["exec", &id, "--", "/bin/sh", "-c", &script]))?;
    let times: Vec<f64> = times.split_whitespace().filter_map(|time| time.parse().ok()).collect();
    let [before, after] = times[..] else { anyhow::bail!("the guest's clock said {times:?}") };
    world.remove_ours(&id)?;
    let inside_ms = (after - before) * 1000.0 / COMMANDS as f64;
    let ours_ms = ours.p50().as_secs_f64() * 1000.0;
    Ok(vec![Line {
        what: "exec in a microVM, first byte".to_owned(),
        ours: ours.to_string(),
        peer: format!("a shell inside the guest: mean {inside_ms:.1} ms"),
        ratio: Some(ours_ms / inside_ms),
        target: "<= 1.2x",
    }])
}

/// Looks at what one idle machine costs beside the memory that its guest has.
///
/// # Errors
/// When its processes can't be found.
pub(super) fn memory(world: &mut World) -> Result<Vec<Line>> {
    let (id, _) = world.run_ours(&FLAGS)?;
    let hand = Hand::like(&id)?;
    let ours = procfs::processes(&[&id])?.into_iter().map(procfs::pss_mib).sum::<Result<f64>>()?;
    let of_shim = procfs::processes(&["hypercore-shim", &id])?;
    let of_monitor = procfs::processes(&["hypercore-vmm", &id])?;
    ensure!(of_shim.len() == 1 && of_monitor.len() == 1, "no shim and monitor of {id} were found");
    let beside = procfs::pss_mib(of_shim[0])? + procfs::pss_mib(of_monitor[0])?;
    let by_hand = hand.idle_mib()?;
    world.remove_ours(&id)?;
    Ok(vec![
        Line::amounts("microVM, shim and monitor, PSS", "MiB", beside, None, "-"),
        Line::amounts(
            "idle microVM of 256 MiB, all its processes",
            "MiB",
            ours,
            Some(("QEMU by hand", by_hand)),
            "-",
        ),
    ])
}

/// Begins many machines at once on each side.
///
/// # Errors
/// When one is lost.
pub(super) fn crowd(world: &mut World) -> Result<Vec<Line>> {
    let (id, _) = world.run_ours(&FLAGS)?;
    let hand = Hand::like(&id)?;
    world.remove_ours(&id)?;
    let (ids, ours) = timed(|| all_at_once(|| world.run_ours(&FLAGS).map(|(id, _)| id)))?;
    let list: Vec<Value> = serde_json::from_str(&shell::read(&mut world.node.command(&["ps", "--json"]))?)
        .context("reading ps --json")?;
    let running = list.iter().filter(|workload| workload["status"] == "running").count();
    ensure!(running == CROWD, "{running} of {CROWD} machines run");
    ids.iter().try_for_each(|id| world.remove_ours(id))?;
    let (_, by_hand) = timed(|| all_at_once(|| hand.boot()))?;
    Ok(vec![Line::amounts(
        "20 microVMs begun at once, until all run",
        "s",
        ours.as_secs_f64(),
        Some(("QEMU by hand", by_hand.as_secs_f64())),
        "none lost",
    )])
}

fn all_at_once<T: Send>(work: impl Fn() -> Result<T> + Sync) -> Result<Vec<T>> {
    thread::scope(|scope| {
        let begun: Vec<_> = (0..CROWD).map(|_| scope.spawn(&work)).collect();
        begun.into_iter().map(|one| one.join().expect("a starter doesn't panic")).collect()
    })
}

/// Runs one of ours: when its QEMU was there, when the command had ended, and its id.
fn run_watched(world: &World) -> Result<(Duration, Duration, String)> {
    const INTERVAL: Duration = Duration::from_micros(200);
    interrupt::check()?;
    let known: BTreeSet<u32> = hand::processes()?.collect();
    let start = Instant::now();
    thread::scope(|scope| {
        let watcher = scope.spawn(|| -> Result<Duration> {
            loop {
                // Only the new ones are looked at: looking at all would take the time that is measured.
                if hand::processes()?.any(|pid| !known.contains(&pid) && hand::is_machine(pid)) {
                    return Ok(start.elapsed());
                }
                ensure!(start.elapsed() < hand::PATIENCE, "no QEMU was started");
                thread::sleep(INTERVAL);
            }
        });
        let (id, took) = world.run_ours(&FLAGS)?;
        let told = watcher.join().expect("a watcher doesn't panic")?;
        Ok((told, took, id))
    })
}
