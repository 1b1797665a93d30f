//! Boots a guest with KVM to see whether one comes up: kernel and initramfs, no disk, no network. `hypercore-vmm` does
//! it, with the command line that it has for workloads. It refuses to wait longer than a moment, and leaves nothing.

use std::{
    fs, io,
    net::Ipv4Addr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use hypercore_model::{
    IoLimits,
    machine::{Accelerator, MachineProcess, MachineSpec, Monitor},
};
use hypercore_runtime::{
    bundle::Mapping,
    machine::{
        initramfs::{self, InitramfsError},
        kernel::Kernel,
        vmlinux::{self, VmlinuxError},
    },
};
use serde::Deserialize;
use tokio::process::Command;

use super::{SurveyPlaces, monitors::FoundMonitor};
use crate::programs::find_program;

/// How long the guest gets, in milliseconds. With KVM it answers in a tenth of that on the slowest host.
const BOOT_TIME_MAX_MS: u64 = 5_000;
/// How long the whole trial may take: a starved host gets the rest.
const TRIAL_TIME_MAX: Duration = Duration::from_secs(15);
/// Memory of the guest, in MiB.
const MEMORY_MIB: u32 = 128;
/// Most characters that are kept of what an engine said.
const LINE_LEN_MAX: usize = 300;
/// What begins the name of a trial's directory.
const PREFIX: &str = "probe-";

/// Why nothing was found out.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProbeError {
    /// A program of ours.
    #[error("{} is not there", .0.display())]
    NoProgram(PathBuf),
    /// The initramfs.
    #[error(transparent)]
    Initramfs(#[from] InitramfsError),
    /// The kernel, in the form that the engine takes.
    #[error(transparent)]
    Kernel(#[from] VmlinuxError),
    /// The trial's directory.
    #[error("{} can't be used", path.display())]
    Directory {
        /// Which one.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The program that tries it.
    #[error("hypercore-vmm can't be run")]
    Run(#[source] io::Error),
    /// It came to no result.
    #[error("hypercore-vmm came to no result: {0}")]
    NoResult(String),
}

/// What is tried.
#[derive(Debug)]
pub(super) struct Probe<'a> {
    pub(super) monitor: Monitor,
    pub(super) found: &'a FoundMonitor,
    pub(super) kernel: &'a Kernel,
    /// The guest agent's program.
    pub(super) agent: &'a Path,
    pub(super) places: SurveyPlaces<'a>,
}

/// What `hypercore-vmm probe` prints.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    /// Why no guest answered; `None` when one did.
    fault: Option<String>,
}

/// A directory of one trial, removed with all that is in it.
struct Scratch(PathBuf);

impl Scratch {
    fn make(parent: &Path) -> Result<Self, ProbeError> {
        let template = parent.join(format!("{PREFIX}XXXXXX"));
        let made = nix::unistd::mkdtemp(&template);
        made.map(Self).map_err(|error| ProbeError::Directory { path: template, source: error.into() })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "could not remove what a trial of KVM used");
        }
    }
}

/// Removes what trials left that were killed with their agent.
pub(super) fn sweep(directory: &Path) {
    let entries = fs::read_dir(directory).ok().into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX)) {
        if let Err(error) = fs::remove_dir_all(entry.path()) {
            tracing::warn!(path = %entry.path().display(), %error, "could not remove a trial of KVM");
        }
    }
}

/// Makes the initramfs that guests of this kernel and agent begin with: what can't be packed is found out here.
pub(super) async fn pack(
    kernel: &Kernel,
    agent: &Path,
    cache: Option<&Path>,
    files: &Path,
) -> Result<(), ProbeError> {
    let made = if cache.is_none() { Some(Scratch::make(files)?) } else { None };
    let directory = made.as_ref().map_or(cache.unwrap_or(files), |made| &made.0).to_owned();
    let (kernel, agent) = (kernel.clone(), agent.to_owned());
    let built = tokio::task::spawn_blocking(move || initramfs::build(&kernel, &agent, &directory));
    Ok(built.await.map_err(|error| ProbeError::NoResult(error.to_string()))?.map(drop)?)
}

impl Probe<'_> {
    /// Boots a guest: `None` when it answered, or why it didn't. Dropped in its midst, it ends the machine.
    pub(super) async fn run(&self) -> Result<Option<String>, ProbeError> {
        let program = find_program("hypercore-vmm").map_err(ProbeError::NoProgram)?;
        let (sockets, files) = (Scratch::make(self.places.sockets)?, Scratch::make(self.places.files)?);
        let (kernel, initrd) = self.files(&files.0).await?;
        let failed = |source| ProbeError::Directory { path: sockets.0.clone(), source };
        write(&sockets.0.join("machine.json"), &self.machine(kernel, initrd, &files.0)).map_err(failed)?;
        let mut command = Command::new(program);
        command.arg("probe").arg(&sockets.0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut trial = command.spawn().map_err(ProbeError::Run)?;
        // Held until it has ended: it ends when this is closed, also by our own end.
        let _hold = trial.stdin.take();
        let output = tokio::time::timeout(TRIAL_TIME_MAX, trial.wait_with_output()).await;
        let output =
            output.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(ProbeError::Run)?;
        let said = first_line(&output.stderr);
        let told = serde_json::from_slice::<Told>(&output.stdout);
        let fault = told.map_err(|_| ProbeError::NoResult(said.clone()))?.fault;
        // What the engine itself said is the better reason.
        Ok(fault.map(|fault| if said.is_empty() { fault } else { format!("{fault}: {said}") }))
    }

    /// The kernel and the initramfs.
    async fn files(&self, files: &Path) -> Result<(PathBuf, PathBuf), ProbeError> {
        let (monitor, kernel, agent) = (self.monitor, self.kernel.clone(), self.agent.to_owned());
        let directory = self.places.cache.unwrap_or(files).to_owned();
        let built = tokio::task::spawn_blocking(move || {
            let initrd = initramfs::build(&kernel, &agent, &directory)?;
            Ok((vmlinux::for_monitor(monitor, &kernel.image, &directory)?, initrd))
        });
        built.await.map_err(|error| ProbeError::NoResult(error.to_string()))?
    }

    fn machine(&self, kernel: PathBuf, initrd: PathBuf, files: &Path) -> MachineSpec {
        MachineSpec {
            monitor: self.monitor,
            program: self.found.program.clone(),
            accelerator: Accelerator::Kvm,
            kernel,
            initrd,
            cpus: 1,
            memory_mib: MEMORY_MIB,
            cpu_millis: None,
            disks: Vec::new(),
            shares: Vec::new(),
            io: IoLimits::default(),
            network: None,
            hostname: "probe".to_owned(),
            read_only: false,
            mounts: Vec::new(),
            // Its guest is not asked to run anything.
            process: MachineProcess {
                argv: Vec::new(),
                env: Vec::new(),
                workdir: "/".to_owned(),
                user: String::new(),
                tty: false,
                stdin_open: false,
            },
            pids_max: None,
            cgroup: PathBuf::new(),
            console_log: files.join("console.log"),
            oom_events: files.join("oom"),
            resume: None,
            // The ids of an address that no workload has.
            monitor_id: Some(Mapping::first_of(Ipv4Addr::UNSPECIFIED)),
            boot_time_max_ms: BOOT_TIME_MAX_MS,
        }
    }
}

/// The first line of what was said, at a length that a record can have: what follows is where it happened.
fn first_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(LINE_LEN_MAX).collect()
}

fn write(path: &Path, machine: &MachineSpec) -> io::Result<()> {
    let file = fs::File::options().write(true).create_new(true).mode(0o600).open(path)?;
    serde_json::to_writer(file, machine).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_trial_left_is_swept_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let left = Scratch::make(parent.path()).unwrap();
        fs::write(left.0.join("console.log"), "x").unwrap();
        std::mem::forget(left);
        fs::create_dir(parent.path().join("machines")).unwrap();
        sweep(parent.path());
        let names: Vec<_> =
            fs::read_dir(parent.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["machines"]);
        drop(Scratch::make(parent.path()).unwrap());
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    }
}
