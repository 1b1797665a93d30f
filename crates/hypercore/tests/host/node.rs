//! A node in a scratch directory, with names of its own for everything it makes in the kernel. It takes its workloads
//! and all else down when it goes, also when the test fails.

use std::{
    fs::File,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use hypercore_fixtures::{ImageBuilder, Leftovers, Registry, guest_kernel, wait_until};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::program::{Ended, finish, hypercore};

/// Longest wait for an agent to answer or to end, on a machine that does much else.
const AGENT_TIME_MAX: Duration = Duration::from_secs(30);
/// Longest wait for the kernel to take away what a node made.
const CLEANUP_TIME_MAX: Duration = Duration::from_secs(10);

/// A node and its agent.
pub(crate) struct Node {
    scratch: tempfile::TempDir,
    pub(crate) bridge: String,
    pub(crate) cidr: String,
    /// Where metrics and health are served.
    pub(crate) http: SocketAddr,
    agent: Option<Child>,
    settings: Vec<(&'static str, String)>,
    before: Leftovers,
}

impl Node {
    /// Starts a node with the busybox image imported as `busybox`.
    pub(crate) fn start() -> Self {
        let mut node = Self::prepare();
        node.start_agent();
        node.import_busybox();
        node
    }

    /// Imports the busybox image as `busybox`.
    pub(crate) fn import_busybox(&self) {
        let archive = self.path("busybox.tar");
        let image = ImageBuilder::busybox().unwrap().build();
        image.write_archive(&archive, "busybox").unwrap();
        self.run(&["image", "import", archive.to_str().unwrap(), "--as", "busybox"]).expect(0);
    }

    /// Takes an agent that was started otherwise, to be ended with the node.
    pub(crate) fn is_run_by(&mut self, agent: Child) {
        self.agent = Some(agent);
    }

    /// A node whose agent doesn't run yet.
    pub(crate) fn prepare() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Unique among the tests of one process and, as long as pids don't come around, among processes.
        let number = process::id().wrapping_mul(8).wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed));
        let scratch = tempfile::Builder::new().prefix("hypercore-host-").tempdir().unwrap();
        let bridge = format!("hct{number}");
        let cidr = format!("10.{}.{}.0/24", 64 + number / 256 % 128, number % 256);
        let before = Leftovers::naming(&[&bridge, scratch.path().to_str().unwrap()]);
        Self { scratch, bridge, cidr, http: free_address(), agent: None, settings: Vec::new(), before }
    }

    /// A path in the scratch directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// `hypercore` with these arguments, told where this node is.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = hypercore();
        let socket = self.path("run/api.sock");
        command.args(arguments).env("HYPERCORE_API", format!("unix:{}", socket.display()));
        command
    }

    /// Runs `hypercore` with these arguments to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        finish(&mut self.command(arguments), b"")
    }

    /// Runs a workload in the background and answers its id.
    #[track_caller]
    pub(crate) fn detach(&self, arguments: &[&str]) -> String {
        let ended = self.run(&[&["run", "-d"], arguments].concat()).expect(0);
        ended.stdout.trim().to_owned()
    }

    /// What `inspect` says of one workload.
    #[track_caller]
    pub(crate) fn inspect(&self, workload: &str) -> serde_json::Value {
        self.run(&["inspect", workload]).expect(0).json()[0].clone()
    }

    /// Waits until `inspect` shows this status.
    #[track_caller]
    pub(crate) fn wait_for_status(&self, workload: &str, status: &str) {
        let reached =
            wait_until(AGENT_TIME_MAX, || (self.inspect(workload)["status"] == status).then_some(()));
        assert!(reached.is_some(), "{workload} never was {status}: {:#}", self.inspect(workload));
    }

    /// Has the agent find this in its environment when it starts next.
    pub(crate) fn set(&mut self, variable: &'static str, value: impl Into<String>) {
        self.settings.push((variable, value.into()));
    }

    /// `hypercore up` for this node.
    pub(crate) fn up(&self) -> Command {
        let mut command = hypercore();
        command.arg("up").arg("--data-dir").arg(self.path("data")).arg("--runtime-dir").arg(self.path("run"));
        command.args(["--bridge", &self.bridge, "--cidr", &self.cidr]);
        command.arg("--http-bind-addr").arg(self.http.to_string());
        if let Some(kernel) = guest_kernel() {
            command.env("HYPERCORE_RUNTIME_KERNEL", kernel);
        }
        command.envs(self.settings.iter().map(|(variable, value)| (*variable, value)));
        command
    }

    /// Starts the agent and waits until it answers.
    #[track_caller]
    pub(crate) fn start_agent(&mut self) {
        require_programs();
        let log = File::options().create(true).append(true).open(self.path("agent.log")).unwrap();
        let mut command = self.up();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.agent = Some(command.spawn().unwrap());
        let answers = || self.run(&["ps"]).code == Some(0);
        let is_up = wait_until(AGENT_TIME_MAX, || answers().then_some(()));
        assert!(is_up.is_some(), "the agent did not come up: {}", self.agent_log());
    }

    /// The agent's process.
    pub(crate) fn agent_pid(&self) -> u32 {
        self.agent.as_ref().unwrap().id()
    }

    /// Kills the agent with SIGKILL.
    pub(crate) fn kill_agent(&mut self) {
        let mut agent = self.agent.take().unwrap();
        agent.kill().unwrap();
        agent.wait().unwrap();
    }

    /// Asks the agent to end and answers its exit code.
    pub(crate) fn stop_agent(&mut self) -> Option<i32> {
        let mut agent = self.agent.take()?;
        kill(Pid::from_raw(agent.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        let ended = wait_until(AGENT_TIME_MAX, || agent.try_wait().unwrap());
        if ended.is_none() {
            let _ = agent.kill();
        }
        agent.wait().unwrap().code()
    }

    /// What the agent wrote.
    pub(crate) fn agent_log(&self) -> String {
        std::fs::read_to_string(self.path("agent.log")).unwrap_or_default()
    }

    /// Removes every workload, ends the agent, and checks that nothing is left.
    #[track_caller]
    pub(crate) fn finish(mut self) {
        self.remove_workloads();
        assert_eq!(self.stop_agent(), Some(0), "{}", self.agent_log());
        self.assert_nothing_left();
    }

    /// Checks that the kernel holds nothing of this node any more.
    #[track_caller]
    pub(crate) fn assert_nothing_left(&self) {
        let left = self.before.wait_for_none_new(CLEANUP_TIME_MAX);
        assert!(left.is_empty(), "left behind: {left:#?}\n{}", self.agent_log());
    }

    fn remove_workloads(&self) {
        let ids = self.run(&["ps", "-aq"]).stdout;
        let ids: Vec<_> = ids.lines().collect();
        if !ids.is_empty() {
            self.run(&[&["rm", "-f"], ids.as_slice()].concat());
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let has_state = self.path("data").exists();
        let is_over = self.agent.is_none() && self.before.wait_for_none_new(Duration::ZERO).is_empty();
        if !has_state || is_over {
            return;
        }
        // The test failed, perhaps with the agent dead: workloads live on without it, so it must come back to end them.
        let is_running = self.agent.as_mut().is_some_and(|agent| matches!(agent.try_wait(), Ok(None)));
        if !is_running {
            self.http = free_address();
            self.agent =
                self.up().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok();
            wait_until(AGENT_TIME_MAX, || (self.run(&["ps"]).code == Some(0)).then_some(()));
        }
        self.remove_workloads();
        self.stop_agent();
    }
}

/// A registry with busybox as `app/web:1`.
pub(crate) fn registry() -> (Registry, String) {
    let registry = Registry::start().unwrap();
    let image = ImageBuilder::busybox().unwrap().build();
    let reference = registry.push(&image, "app/web:1").unwrap();
    (registry, reference)
}

/// An address that was free a moment ago.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The programs that the agent starts are another package's: cargo doesn't build them for this test.
fn require_programs() {
    let hypercore = Path::new(env!("CARGO_BIN_EXE_hypercore"));
    for name in ["hypercore-shim", "hypercore-engine", "hypercore-vmm"] {
        let path = hypercore.with_file_name(name);
        assert!(path.is_file(), "{} is missing: run `cargo build -p hypercore-shim` first", path.display());
    }
}
