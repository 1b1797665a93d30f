//! A workload held by a real shim, for tests: everything below one temporary directory and one cgroup, gone when
//! dropped, also after a failure.

use std::{
    fs,
    future::Future,
    path::{Path, PathBuf},
    time::Duration,
};

use hypercore_fixtures::wait_until;
use hypercore_model::{Attempt, WorkloadId};
use hypercore_runtime::{
    log::{LogQuery, LogReader, LogStream},
    sandbox::{
        ExecEvent, ExecRequest, ExecSession, LaunchError, LaunchRequest, LogLimits, Sandbox, Sandboxes,
    },
};

use crate::engine::machine::Machine;

/// How long anything here may take before the test has failed.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(30);

/// One workload and the directory its node would have.
pub(super) struct Held {
    pub(super) machine: Machine,
    pub(super) sandboxes: Sandboxes,
    pub(super) request: LaunchRequest,
    runtime_directory: tempfile::TempDir,
}

impl Held {
    /// A workload that will run `script` in busybox's shell.
    pub(super) fn shell(script: &str) -> Self {
        let machine = Machine::shell(script);
        let runtime_directory = tempfile::Builder::new().prefix("hypercore-shim-").tempdir().unwrap();
        let request = LaunchRequest {
            id: machine.id,
            attempt: Attempt::new(3),
            directory: machine.bundle(),
            engine: hypercore_runtime::sandbox::Engine::Container,
            tty: false,
            stdin_open: false,
            oom_events: Some(machine.cgroups.oom_events(machine.id)),
            start_time_max: Duration::from_secs(60),
            log: LogLimits::default(),
        };
        Self { sandboxes: sandboxes(runtime_directory.path()), machine, request, runtime_directory }
    }

    /// Gives the first process a terminal.
    pub(super) fn with_terminal(mut self) -> Self {
        self.machine.spec.tty = true;
        self.request.tty = true;
        self
    }

    /// Keeps the first process's standard input open.
    pub(super) fn with_stdin(mut self) -> Self {
        self.request.stdin_open = true;
        self
    }

    pub(super) async fn try_launch(&self) -> Result<Sandbox, LaunchError> {
        self.machine.prepare().unwrap();
        deadline(self.sandboxes.launch(self.request.clone())).await
    }

    pub(super) async fn launch(&self) -> Sandbox {
        self.try_launch().await.unwrap()
    }

    pub(super) fn id(&self) -> WorkloadId {
        self.machine.id
    }

    pub(super) fn directory(&self) -> PathBuf {
        self.machine.bundle()
    }

    pub(super) fn runtime_directory(&self) -> &Path {
        self.runtime_directory.path()
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.runtime_directory().join(format!("shim/{}.sock", self.id()))
    }

    /// The resident shim's process, by its command line.
    pub(super) fn shim_pid(&self) -> Option<i32> {
        processes_of(self.id()).into_iter().find(|pid| is_alive(*pid))
    }

    /// Waits until the shim has ended by itself.
    pub(super) fn wait_for_shims_end(&self) {
        wait_until(WAIT_MAX, || self.shim_pid().is_none().then_some(())).expect("the shim stays");
        assert!(!self.socket().exists());
    }

    /// What was logged on one stream until now.
    pub(super) async fn logged(&self, stream: LogStream) -> String {
        let mut reader = LogReader::open(&self.directory(), LogQuery::default()).unwrap();
        let mut bytes = Vec::new();
        while let Some(entry) = reader.next().await.unwrap() {
            if entry.stream == stream {
                bytes.extend(entry.data);
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Follows the log until its standard output has `text` in it.
    pub(super) async fn wait_for_output(&self, text: &str) {
        let query = LogQuery { follow: true, ..LogQuery::default() };
        let mut reader = LogReader::open(&self.directory(), query).unwrap();
        let mut bytes = Vec::new();
        while !String::from_utf8_lossy(&bytes).contains(text) {
            let entry = deadline(reader.next()).await.unwrap();
            bytes.extend(entry.unwrap_or_else(|| panic!("the log ends without `{text}`")).data);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // In whatever state the test has left it: it may have filled the shim with clients that are only just going.
        // A runtime of its own, because the test's may be unwinding.
        let (sandboxes, id) = (self.sandboxes.clone(), self.id());
        let destroys = move || wait_until(WAIT_MAX, || block_on(sandboxes.destroy(id)).ok());
        let destroyed = std::thread::spawn(destroys).join();
        if !std::thread::panicking() {
            destroyed.unwrap().expect("it can't be destroyed");
            self.wait_for_shims_end();
        }
    }
}

/// The sandboxes of a node that runs in `runtime_directory`, as a freshly started agent sees them.
pub(super) fn sandboxes(runtime_directory: &Path) -> Sandboxes {
    let (shim, engine) = (env!("CARGO_BIN_EXE_hypercore-shim"), env!("CARGO_BIN_EXE_hypercore-engine"));
    Sandboxes::new(shim.into(), engine.into(), runtime_directory.to_owned())
}

pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Fails the test instead of hanging it.
pub(super) async fn deadline<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(WAIT_MAX, future).await.expect("it takes too long")
}

/// An execution of `script` in busybox's shell.
pub(super) fn shell(script: &str) -> ExecRequest {
    ExecRequest { argv: ["sh", "-c", script].map(str::to_owned).to_vec(), ..ExecRequest::default() }
}

/// Everything an execution said, and how it ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    pub(super) exit: Option<hypercore_model::ExitStatus>,
}

impl Said {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// Reads an execution to its end.
pub(super) async fn listen(session: &mut ExecSession) -> Said {
    let mut said = Said::default();
    while let Some(event) = deadline(session.events.next()).await.unwrap() {
        match event {
            ExecEvent::Stdout(data) => said.stdout.extend(data),
            ExecEvent::Stderr(data) => said.stderr.extend(data),
            ExecEvent::Exit(exit) => said.exit = Some(exit),
        }
    }
    said
}

/// Shims of a workload, by their command lines.
fn processes_of(id: WorkloadId) -> Vec<i32> {
    let needle = format!("--id\0{id}\0--attempt");
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        String::from_utf8_lossy(&command).contains(&needle).then_some(pid)
    });
    processes.collect()
}

/// Whether a process exists and is more than a zombie.
pub(super) fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.starts_with(" Z"))
}
