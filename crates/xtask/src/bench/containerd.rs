//! A private containerd: its own root, state and socket, nothing shared with one that may run here already.
//!
//! It refuses to leave containers behind: dropping it removes them and ends it.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hypercore_fixtures::wait_until;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::procfs;
use crate::shell;

/// containerd's shims put runc's state in one place for all instances; the namespace keeps ours apart.
const NAMESPACE: &str = "hypercore-bench";
const PATIENCE: Duration = Duration::from_secs(30);

/// The running daemon.
#[derive(Debug)]
pub(super) struct Containerd {
    process: Child,
    directory: tempfile::TempDir,
}

impl Containerd {
    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// When it doesn't come up; the error holds what it wrote.
    pub(super) fn start() -> Result<Self> {
        let directory =
            tempfile::Builder::new().prefix("hypercore-peer-").tempdir().context("a scratch directory")?;
        let at = directory.path().display();
        let config = format!(
            "version = 2\nroot = \"{at}/root\"\nstate = \"{at}/state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{at}/containerd.sock\"\n"
        );
        std::fs::write(directory.path().join("config.toml"), config).context("writing config.toml")?;
        let log = std::fs::File::create(directory.path().join("log")).context("making the log")?;
        let mut command = Command::new("containerd");
        command.arg("--config").arg(directory.path().join("config.toml")).stdin(Stdio::null());
        // In a group of its own: Ctrl-C is for the benchmark, which then ends it in order.
        command.process_group(0);
        let process = command.stdout(log.try_clone()?).stderr(log).spawn().context("starting containerd")?;
        let peer = Self { process, directory };
        if wait_until(PATIENCE, || shell::succeeds(&mut peer.ctr(&["version"])).then_some(())).is_none() {
            let log = std::fs::read_to_string(peer.directory.path().join("log")).unwrap_or_default();
            bail!("containerd did not come up; it said:\n{log}");
        }
        Ok(peer)
    }

    /// `ctr` with these arguments, speaking to this instance.
    pub(super) fn ctr(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.socket()).args(["--namespace", NAMESPACE]).args(arguments);
        command.stdin(Stdio::null());
        command
    }

    /// Imports an OCI archive and answers the name of the image.
    ///
    /// # Errors
    /// When containerd refuses it.
    pub(super) fn import(&self, archive: &Path) -> Result<String> {
        shell::read(self.ctr(&["images", "import"]).arg(archive))?;
        let names = shell::read(&mut self.ctr(&["images", "ls", "-q"]))?;
        names.lines().next().map(str::to_owned).context("containerd lists no image after the import")
    }

    /// Removes a container and its task, running or not.
    ///
    /// # Errors
    /// When containerd can't.
    pub(super) fn remove(&self, id: &str) -> Result<()> {
        // A container whose start failed has no task to remove.
        shell::succeeds(&mut self.ctr(&["tasks", "rm", "--force", id]));
        shell::read(&mut self.ctr(&["containers", "rm", id])).map(drop)
    }

    /// What the command lines of its shims have in common.
    pub(super) fn socket(&self) -> PathBuf {
        self.directory.path().join("containerd.sock")
    }

    /// The daemon's process id.
    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Removes every container.
    ///
    /// # Errors
    /// When containerd can't.
    pub(super) fn clear(&self) -> Result<()> {
        for id in shell::read(&mut self.ctr(&["containers", "ls", "-q"]))?.lines() {
            self.remove(id)?;
        }
        Ok(())
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if let Err(error) = self.clear() {
            eprintln!("cleaning up containerd: {error:#}");
        }
        let pid = Pid::from_raw(i32::try_from(self.process.id()).expect("process ids fit an i32"));
        let asked = kill(pid, Signal::SIGTERM).is_ok();
        if !asked
            || wait_until(PATIENCE, || matches!(self.process.try_wait(), Ok(Some(_))).then_some(())).is_none()
        {
            // Both fail only when it is gone.
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
        // Made by its shims outside of its directories; there only if there is nothing in it any more.
        let _ = std::fs::remove_dir(Path::new("/run/containerd/runc").join(NAMESPACE));
        procfs::remove_empty_cgroups(NAMESPACE);
    }
}
