//! Row "bare container": create, start, end and delete of one container by the engine alone, on one bundle.
//!
//! It refuses an agent, a shim and a network on either side: this is hypercore-engine against runc.

use std::io::{BufRead, BufReader};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::prctl;
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, pipe};
use serde_json::{Value, json};

use super::procfs;
use super::samples::Samples;
use super::table::Line;
use super::world::{World, timed};
use crate::shell;

const ROUNDS: usize = 200;
/// Both sides put the container's cgroup here.
const CGROUP: &str = "hypercore-bench-bare";

/// Runs `true` in containers of both sides in turn.
///
/// # Errors
/// When one doesn't run to its end.
pub(super) fn measure(world: &mut World) -> Result<Vec<Line>> {
    // What the engine starts becomes our child when the engine ends, as it would become the shim's.
    prctl::set_child_subreaper(true).context("becoming a subreaper")?;
    let bundle = Bundle::make(world.node.directory())?;
    let engine = world.node.programs().join("hypercore-engine");
    let (mut ours, mut peer) = (Samples::default(), Samples::default());
    for round in 0..ROUNDS {
        let id = format!("bare-{round}");
        ours.push(timed(|| bundle.by_engine(&engine, &id))?.1);
        peer.push(timed(|| bundle.by_runc(&id))?.1);
    }
    prctl::set_child_subreaper(false).context("ceasing to be a subreaper")?;
    procfs::remove_empty_cgroups(CGROUP);
    Ok(vec![Line::times("bare container, whole life", &ours, ("runc run", &peer), "<= 0.4x")])
}

/// A root filesystem with busybox, and a configuration that `runc spec` wrote.
struct Bundle {
    directory: PathBuf,
    states: [PathBuf; 2],
}

impl Bundle {
    fn make(scratch: &Path) -> Result<Self> {
        let directory = scratch.join("bare");
        for path in ["rootfs/bin", "rootfs/proc", "rootfs/sys", "rootfs/dev"] {
            std::fs::create_dir_all(directory.join(path)).context("making the bundle")?;
        }
        std::fs::copy("/bin/busybox", directory.join("rootfs/bin/true")).context("copying busybox")?;
        shell::read(Command::new("runc").args(["spec", "--bundle"]).arg(&directory))?;
        let path = directory.join("config.json");
        let text = std::fs::read_to_string(&path).context("reading the bundle's config.json")?;
        let mut config: Value = serde_json::from_str(&text).context("reading the bundle's config.json")?;
        config["process"]["args"] = json!(["/bin/true"]);
        config["process"]["terminal"] = json!(false);
        config["linux"]["cgroupsPath"] = json!(format!("/{CGROUP}"));
        std::fs::write(path, config.to_string()).context("writing the bundle's config.json")?;
        let states = [scratch.join("bare-engine"), scratch.join("bare-runc")];
        states.iter().try_for_each(std::fs::create_dir).context("making the engines' directories")?;
        Ok(Self { directory, states })
    }

    fn by_engine(&self, engine: &Path, id: &str) -> Result<()> {
        let (read, write) = pipe().context("making a pipe")?;
        let mut command = Command::new(engine);
        command.arg("create").arg("--root").arg(&self.states[0]).args(["--id", id]);
        command.arg("--bundle").arg(&self.directory).args(["--report-fd", &write.as_raw_fd().to_string()]);
        let pid = reported_pid(&mut command, read, write)?;
        waitpid(pid, None).context("waiting for the container")?;
        let mut delete = Command::new(engine);
        shell::read(delete.arg("delete").arg("--root").arg(&self.states[0]).args(["--id", id])).map(drop)
    }

    fn by_runc(&self, id: &str) -> Result<()> {
        let mut command = Command::new("runc");
        command.arg("--root").arg(&self.states[1]).arg("run").arg("--bundle").arg(&self.directory).arg(id);
        shell::read(command.stdin(Stdio::null())).map(drop)
    }
}

/// Runs the engine and reads the one line of its report: `{"pid":123}` or `{"error":{...}}`.
fn reported_pid(command: &mut Command, read: OwnedFd, write: OwnedFd) -> Result<Pid> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = command.spawn().with_context(|| shell::typed(command))?;
    drop(write);
    let mut line = String::new();
    BufReader::new(std::fs::File::from(read)).read_line(&mut line).context("reading the engine's report")?;
    let status = child.wait().context("waiting for the engine")?;
    ensure!(status.success(), "the engine failed: {}", line.trim());
    let report: Value =
        serde_json::from_str(&line).with_context(|| format!("the engine's report {line:?}"))?;
    let pid = report["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    pid.map(Pid::from_raw).with_context(|| format!("no pid in the engine's report {line:?}"))
}
