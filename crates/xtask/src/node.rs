//! One node in a scratch directory, driven through the `hypercore` program as a user would.
//!
//! It refuses to leave anything behind: dropping [`Node`] removes its workloads, ends its agent and deletes its
//! directory, unless [`Node::keep`] was called.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hypercore_fixtures::{Leftovers, guest_kernel, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::shell;

/// Longest wait for an agent to answer, or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node's directories and, while it runs, its agent.
#[derive(Debug)]
pub(crate) struct Node {
    programs: PathBuf,
    bridge: &'static str,
    cidr: &'static str,
    scratch: Option<tempfile::TempDir>,
    http: SocketAddr,
    agent: Option<Child>,
}

impl Node {
    /// Makes a scratch directory. `programs` is where the built binaries are; `bridge` and `cidr` must be used by no
    /// other node of this machine.
    ///
    /// # Errors
    /// When the directory can't be made or no port is free.
    pub(crate) fn prepare(programs: PathBuf, bridge: &'static str, cidr: &'static str) -> Result<Self> {
        let scratch =
            tempfile::Builder::new().prefix("hypercore-").tempdir().context("making a scratch directory")?;
        Ok(Self { programs, bridge, cidr, scratch: Some(scratch), http: free_address()?, agent: None })
    }

    /// The scratch directory.
    pub(crate) fn directory(&self) -> &Path {
        self.scratch.as_ref().expect("only drop takes it").path()
    }

    /// Where the built programs are.
    pub(crate) fn programs(&self) -> &Path {
        &self.programs
    }

    /// What the CLI needs to find this node, as a value of `HYPERCORE_API`.
    pub(crate) fn api(&self) -> String {
        format!("unix:{}/run/api.sock", self.directory().display())
    }

    /// `hypercore` with these arguments, speaking to this node.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join("hypercore"));
        command.args(arguments).env("HYPERCORE_API", self.api()).stdin(Stdio::null());
        command
    }

    /// `hypercore up` for this node.
    pub(crate) fn up(&self) -> Command {
        let mut command = Command::new(self.programs.join("hypercore"));
        command.arg("up").arg("--data-dir").arg(self.directory().join("data"));
        command.arg("--runtime-dir").arg(self.directory().join("run"));
        command.args(["--bridge", self.bridge, "--cidr", self.cidr]);
        command.arg("--http-bind-addr").arg(self.http.to_string());
        if let Some(kernel) = guest_kernel() {
            command.env("HYPERCORE_RUNTIME_KERNEL", kernel);
        }
        command
    }

    /// Starts the agent and waits until it answers; says how long that took.
    ///
    /// # Errors
    /// When it ends, or doesn't answer in time; the error holds what it wrote.
    pub(crate) fn start(&mut self) -> Result<Duration> {
        let log = self.directory().join("agent.log");
        let file =
            std::fs::File::options().create(true).append(true).open(&log).context("opening agent.log")?;
        let mut command = self.up();
        // In a group of its own: Ctrl-C is for the demo, which then ends the agent in order.
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0);
        let mut ps = self.command(&["ps"]);
        let start = Instant::now();
        let agent = self.agent.insert(command.spawn().with_context(|| shell::typed(&command))?);
        let ended = wait_until(PATIENCE, || match agent.try_wait() {
            Ok(None) => shell::succeeds(&mut ps).then_some(false),
            _ => Some(true),
        });
        if ended == Some(false) {
            return Ok(start.elapsed());
        }
        bail!("the agent did not come up; it said:\n{}", std::fs::read_to_string(&log).unwrap_or_default());
    }

    /// The agent's process id.
    ///
    /// # Errors
    /// When it isn't running.
    pub(crate) fn agent_pid(&self) -> Result<u32> {
        self.agent.as_ref().map(Child::id).context("the agent isn't running")
    }

    /// Kills the agent with SIGKILL: it gets no chance to do anything.
    ///
    /// # Errors
    /// When it isn't running.
    pub(crate) fn kill_agent(&mut self) -> Result<()> {
        let mut agent = self.agent.take().context("the agent isn't running")?;
        agent.kill().context("killing the agent")?;
        agent.wait().context("waiting for the agent")?;
        Ok(())
    }

    /// Asks the agent to end (SIGTERM) and waits for it.
    ///
    /// # Errors
    /// When it doesn't end in time.
    pub(crate) fn stop_agent(&mut self) -> Result<()> {
        let Some(agent) = &mut self.agent else { return Ok(()) };
        kill(pid(agent), Signal::SIGTERM).context("asking the agent to end")?;
        if wait_until(PATIENCE, || matches!(agent.try_wait(), Ok(Some(_))).then_some(())).is_none() {
            bail!("the agent did not end within {} s of SIGTERM", PATIENCE.as_secs());
        }
        self.agent = None;
        Ok(())
    }

    /// Leaves the node running, and its directory where it is.
    pub(crate) fn keep(mut self) -> PathBuf {
        self.agent = None;
        let scratch = self.scratch.take().expect("only this and drop take it");
        scratch.keep()
    }

    /// Removes every workload and ends the agent, starting it first if it is gone: its workloads may not be.
    fn clear(&mut self) -> Result<()> {
        if !self.directory().join("data").exists() {
            return Ok(());
        }
        if self.agent.as_mut().is_none_or(|agent| !matches!(agent.try_wait(), Ok(None))) {
            self.start()?;
        }
        for id in shell::read(&mut self.command(&["ps", "-a", "-q"]))?.lines() {
            shell::read(&mut self.command(&["rm", "--force", id]))?;
        }
        self.stop_agent()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let Some(scratch) = &self.scratch else { return };
        let directory = scratch.path().to_string_lossy().into_owned();
        let cleared = self.clear();
        if let Some(agent) = &mut self.agent {
            // It would not end by itself; both fail only when it is gone.
            let _ = agent.kill();
            let _ = agent.wait();
        }
        if let Err(error) = cleared {
            eprintln!("cleaning up: {error:#}");
        }
        let rest = Leftovers::naming(&[&directory]);
        rest.iter().for_each(|one| eprintln!("left behind: {one}"));
        // Deleting below a mount could reach what isn't ours.
        if rest.iter().next().is_some()
            && let Some(scratch) = self.scratch.take()
        {
            eprintln!("left behind: {}", scratch.keep().display());
        }
    }
}

/// A loopback address with a port that was free a moment ago.
///
/// # Errors
/// When there is none.
pub(crate) fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("looking for a free port")?;
    listener.local_addr().context("looking for a free port")
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("process ids fit an i32"))
}
