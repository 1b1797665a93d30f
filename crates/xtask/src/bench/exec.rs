//! Row "exec": from the command typed to the first byte that it writes inside a running container.
//!
//! It refuses to measure anything but whole commands: starting the client is part of what a user waits for.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::samples::Samples;
use super::table::Line;
use super::world::World;
use crate::{interrupt, shell};

const ROUNDS: usize = 200;
/// Of the peer's container; runc knows it by the same name.
const PEER: &str = "exec-target";

/// Executes `echo` in one container of each side, in turn.
///
/// # Errors
/// When a command doesn't answer.
pub(super) fn measure(world: &mut World) -> Result<Vec<Line>> {
    let (id, _) = world.run_ours(&[])?;
    world.run_peer(PEER)?;
    let (mut ours, mut ctr, mut runc) = (Samples::default(), Samples::default(), Samples::default());
    for round in 0..ROUNDS {
        ours.push(first_byte(&mut world.node.command(&["exec", &id, "--", "echo", "x"]))?);
        let exec_id = format!("exec-{round}");
        ctr.push(first_byte(&mut world.peer.ctr(&[
            "tasks",
            "exec",
            "--exec-id",
            &exec_id,
            PEER,
            "echo",
            "x",
        ]))?);
        let mut command = Command::new("runc");
        command.args(["--root", "/run/containerd/runc/hypercore-bench", "exec", PEER, "echo", "x"]);
        runc.push(first_byte(&mut command)?);
    }
    world.remove_ours(&id)?;
    world.peer.remove(PEER)?;
    Ok(vec![
        Line::times("exec, first byte", &ours, ("ctr task exec", &ctr), "p50 <= 10 ms"),
        Line::times("exec, first byte", &ours, ("runc exec", &runc), "-"),
    ])
}

/// How long a command takes until it has written something.
///
/// # Errors
/// When it writes nothing.
pub(super) fn first_byte(command: &mut Command) -> Result<Duration> {
    interrupt::check()?;
    let start = Instant::now();
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().with_context(|| shell::typed(command))?;
    let mut byte = [0];
    let read = child.stdout.take().context("its stdout is piped")?.read(&mut byte);
    let took = start.elapsed();
    let status = child.wait().with_context(|| shell::typed(command))?;
    ensure!(matches!(read, Ok(1)), "{} wrote nothing and ended with {status}", shell::typed(command));
    Ok(took)
}
