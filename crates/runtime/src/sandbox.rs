//! Sandboxes as the agent sees them: each is a shim process behind a Unix socket, launched, adopted or destroyed here.
//! It refuses to remember: which sandboxes exist is read from the runtime directory, how one ended from its own.
//!
//! ```text
//!   <runtime directory>/shim/<id>.sock    the shim serves the wire protocol here while its workload runs
//!   <runtime directory>/engine/           what the engine knows of its containers
//!   <runtime directory>/machines/<id>/    a microVM's specification and sockets
//!   <runtime directory>/bundles/<id>.json a container's description
//!   <workload directory>/exit.json        left by the shim when the first process has ended
//! ```
//!
//! Every operation opens a connection of its own and drives it inside the caller's future: there is no background
//! task, nothing is shared between callers, and dropping a future or a handle closes its connection.

mod error;
mod exec;
mod handle;
mod launch;
pub(crate) mod link;
mod session;
mod socket;

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use hypercore_model::WorkloadId;
pub use hypercore_model::exit::ExitRecord;
use hypercore_wire::message::{Message, Shutdown};
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::process::Command;

pub use error::{
    AdoptError, DestroyError, ExecError, InputError, LaunchError, RequestError, ScanError, ShimTooOld,
    ShimVanished,
};
pub use exec::{ExecEvent, ExecEvents, ExecRequest, ExecSession, Input, TerminalSize};
pub use handle::Sandbox;
pub use launch::{Engine, LaunchRequest, LogLimits};
pub use link::LinkError;

use link::Link;

/// How long a shim may take to answer a plain question. It is idle but for copying output, so only a stopped process
/// or a starved machine takes longer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a shim may take to kill its workload and end.
const SHUTDOWN_TIME_MAX: Duration = Duration::from_secs(10);

/// All sandboxes of one node.
#[derive(Debug, Clone)]
pub struct Sandboxes {
    shim_binary: PathBuf,
    engine_binary: PathBuf,
    machine_binary: PathBuf,
    runtime_directory: PathBuf,
}

/// What became of a sandbox while nobody was connected to it.
#[derive(Debug)]
pub enum Adoption {
    /// It runs.
    Running(Sandbox),
    /// Its workload ended, and its shim left a record.
    Ended(ExitRecord),
    /// There is neither a shim nor a record: it never started, or its shim was killed.
    Gone,
}

impl Sandboxes {
    /// The sandboxes whose sockets are in `runtime_directory`, started with these two programs. The engine of microVMs
    /// is installed beside the one of containers.
    #[must_use]
    pub fn new(shim_binary: PathBuf, engine_binary: PathBuf, runtime_directory: PathBuf) -> Self {
        let machine_binary = engine_binary.with_file_name("hypercore-vmm");
        Self { shim_binary, engine_binary, machine_binary, runtime_directory }
    }

    /// Starts a shim and through it the workload of the bundle in `request.directory`. Returns when its first process
    /// runs.
    ///
    /// # Errors
    /// [`LaunchError`] by step. [`Self::destroy`] then removes whatever there is.
    pub async fn launch(&self, request: LaunchRequest) -> Result<Sandbox, LaunchError> {
        launch::launch(self, request).await
    }

    /// Takes up a sandbox that was launched by an agent before this one. `directory` is the workload's own.
    ///
    /// # Errors
    /// [`AdoptError`] when a shim is there and can't be spoken with, or its record can't be read.
    pub async fn adopt(&self, id: WorkloadId, directory: &Path) -> Result<Adoption, AdoptError> {
        let adopted =
            tokio::time::timeout(ANSWER_TIME_MAX, Sandbox::connect(id, self.socket(id), directory)).await;
        match adopted {
            Ok(Ok(sandbox)) => return Ok(Adoption::Running(sandbox)),
            // The shim may be on its way out: then its record is already there, and its socket gone.
            Ok(Err(error)) if error.means_gone() => {}
            Ok(Err(error)) => return Err(AdoptError::Request(error)),
            Err(_) => return Err(AdoptError::Request(RequestError::Silent)),
        }
        let record = handle::read_exit_record(directory).map_err(AdoptError::Record)?;
        Ok(record.map_or(Adoption::Gone, Adoption::Ended))
    }

    /// The workloads that have a shim's socket, whether or not a shim still listens there.
    ///
    /// # Errors
    /// [`ScanError`] when the directory can't be read. One that doesn't exist has no sockets.
    pub fn scan(&self) -> Result<Vec<WorkloadId>, ScanError> {
        let directory = self.shim_directory();
        let failed = |source| ScanError { path: directory.clone(), source };
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut ids = BTreeSet::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".sock")).and_then(|id| id.parse().ok());
            ids.extend::<Option<WorkloadId>>(id);
        }
        Ok(ids.into_iter().collect())
    }

    /// Ends whatever there still is of a sandbox: the workload is killed, its shim ends, the engine forgets it.
    /// A sandbox that doesn't exist is fine, and a shim that doesn't answer is killed. The workload's directory stays
    /// as it is.
    ///
    /// # Errors
    /// [`DestroyError`] by step; trying again is safe.
    pub async fn destroy(&self, id: WorkloadId) -> Result<(), DestroyError> {
        if let Err(error) = self.shut_down(id).await {
            // Stopped or stuck: its workload must not live on because of that.
            tracing::warn!(workload = %id, error = &error as &dyn std::error::Error, "killing a shim that does not end");
            self.kill_shim(id).await?;
        }
        let held = self.machine_directory(id).exists();
        self.forget(if held { Engine::Machine } else { Engine::Container }, id).await?;
        self.remove_sockets(id).map_err(DestroyError::RemoveSocket)?;
        match fs::remove_file(self.bundle_directory().join(format!("{id}.json"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(DestroyError::RemoveConfig(error)),
            _ => Ok(()),
        }
    }

    /// Has the engine kill and remove what it knows of a workload.
    async fn forget(&self, engine: Engine, id: WorkloadId) -> Result<(), DestroyError> {
        let command = Command::new(self.engine(engine))
            .arg("delete")
            .arg("--root")
            .arg(self.engine_root(engine))
            .args(["--id", &id.to_string()])
            .stdin(std::process::Stdio::null())
            .output();
        let output = command.await.map_err(DestroyError::SpawnEngine)?;
        if output.status.success() {
            return Ok(());
        }
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(DestroyError::Engine { status: output.status, message })
    }

    /// Removes the shim's socket, and those for terminals that a killed shim was waiting for.
    fn remove_sockets(&self, id: WorkloadId) -> io::Result<()> {
        let entries = match fs::read_dir(self.shim_directory()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        let prefix = format!("{id}.");
        for entry in entries {
            let entry = entry?;
            if !entry.file_name().to_string_lossy().starts_with(&prefix) {
                continue;
            }
            match fs::remove_file(entry.path()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Has a live shim kill its workload, and waits until it has ended.
    async fn shut_down(&self, id: WorkloadId) -> Result<(), RequestError> {
        let shut_down = async {
            let link = match Link::connect(&self.socket(id)).await {
                Err(error) if error.means_gone() => return Ok(()),
                link => link?,
            };
            let closed = link.request(Shutdown {}.into()).await;
            match closed {
                Err(error) if error.means_gone() => Ok(()),
                Ok(Message::Error(fault)) => Err(RequestError::Refused(fault)),
                Ok(answer) => Err(LinkError::Unexpected(answer.number()).into()),
                Err(error) => Err(error.into()),
            }
        };
        let ended = tokio::time::timeout(SHUTDOWN_TIME_MAX, shut_down).await;
        ended.unwrap_or(Err(RequestError::Silent))
    }

    /// Kills the process that listens on the shim's socket, if there is one.
    async fn kill_shim(&self, id: WorkloadId) -> Result<(), DestroyError> {
        let Ok(stream) = socket::connect(&self.socket(id)).await else { return Ok(()) };
        let listener = stream.peer_cred().map_err(DestroyError::KillShim)?.pid();
        let Some(pid) = listener else { return Ok(()) };
        match kill(Pid::from_raw(pid), Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(DestroyError::KillShim(error.into())),
        }
    }

    /// An engine's program.
    #[must_use]
    pub fn engine(&self, engine: Engine) -> &Path {
        match engine {
            Engine::Container => &self.engine_binary,
            Engine::Machine => &self.machine_binary,
        }
    }

    /// Where the descriptions of containers are, with their environments; in memory alone, when the runtime directory is.
    #[must_use]
    pub fn bundle_directory(&self) -> PathBuf {
        self.runtime_directory.join("bundles")
    }

    /// Where the machine of a workload is specified; in memory alone, when the runtime directory is.
    #[must_use]
    pub fn machine_directory(&self, id: WorkloadId) -> PathBuf {
        self.engine_root(Engine::Machine).join(id.to_string())
    }

    /// Where the monitor of a workload's machine can be spoken with.
    #[must_use]
    pub fn machine_socket(&self, id: WorkloadId) -> PathBuf {
        self.machine_directory(id).join("machine.sock")
    }

    fn shim_directory(&self) -> PathBuf {
        self.runtime_directory.join("shim")
    }

    fn socket(&self, id: WorkloadId) -> PathBuf {
        self.shim_directory().join(format!("{id}.sock"))
    }

    fn engine_root(&self, engine: Engine) -> PathBuf {
        self.runtime_directory.join(match engine {
            Engine::Container => "engine",
            Engine::Machine => "machines",
        })
    }
}
