//! What this node runs microVMs with: found out in the background when the agent starts, or the reason why there are
//! none. It refuses to promise what was not tried: KVM is used where a guest came up with it.
//!
//! ```text
//!   monitors: which engines are installed --+
//!   /dev/kvm --> probe: boot a guest -------+--> survey --choose--> engine, accelerator, and why
//!                  record: kvm-probe.json --+
//! ```
//!
//! A microVM that is started before that is known waits for it, some seconds once per boot of the host: in software it
//! would be slow for all its life.

mod monitors;
mod probe;
mod record;
mod survey;

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hypercore_model::machine::{BOOT_TIME_MAX_MS_DEFAULT, Monitor};
use hypercore_runtime::machine::{
    bundle::Platform,
    kernel::{Kernel, KernelError},
};
use tokio::sync::watch;

use crate::{failure::chain, programs::find_program};

pub use monitors::{FoundMonitor, MonitorError, find_monitor};
pub use survey::{Choice, KvmFault, NoEngine, Survey, SurveyedEngine};

pub(crate) use survey::RunBy;

use probe::{Probe, ProbeError};
use record::{Record, Subject, Trial};

/// Where `doctor --fix` puts one, in the data directory.
const KERNEL_OF_NODE: &str = "kernel";
/// Where a package may bring a kernel.
const KERNEL_OF_HOST: &str = "/usr/lib/hypercore/kernel";
/// The device of KVM.
const KVM: &str = "/dev/kvm";
/// What machines share, in the data directory.
const CACHE: &str = "images/vm";

/// Settings of microVMs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineSettings {
    /// Which monitor; `None` takes the best that works.
    pub monitor: Option<Monitor>,
    /// The guests' kernel, or an unpacked kernel package; `None` looks in the data directory and where packages put it.
    pub kernel: Option<PathBuf>,
    /// How long a guest may take to its first word.
    pub boot_time_max: Duration,
}

impl Default for MachineSettings {
    fn default() -> Self {
        Self { monitor: None, kernel: None, boot_time_max: Duration::from_millis(BOOT_TIME_MAX_MS_DEFAULT) }
    }
}

/// Why this node runs no microVM.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Unavailable {
    /// No engine, or not the one that was asked for.
    #[error(transparent)]
    Engine(#[from] NoEngine),
    /// No kernel for the guests.
    #[error(transparent)]
    Kernel(#[from] Arc<KernelError>),
    /// The guest agent is not installed.
    #[error("the guest agent {} is not installed", .0.display())]
    NoAgent(PathBuf),
    /// The agent ends before it found out.
    #[error("the node is going down")]
    GoingDown,
}

/// Where a survey keeps its things.
#[derive(Debug, Clone, Copy)]
pub struct SurveyPlaces<'a> {
    /// The node's data directory, with the record of earlier trials.
    pub data_directory: &'a Path,
    /// Where a trial's sockets are made: a short path.
    pub sockets: &'a Path,
    /// Where its files are made, on a disk that programs may be run from: Firecracker's jailer does.
    pub files: &'a Path,
    /// Where the initramfs is kept; `None` makes one for the trial alone.
    pub cache: Option<&'a Path>,
    /// Whether what failed before is tried again.
    pub tries_again: bool,
}

/// What runs microVMs here.
#[derive(Debug)]
pub(crate) struct Machines {
    settings: MachineSettings,
    data_directory: PathBuf,
    runtime_directory: PathBuf,
    survey: watch::Sender<Option<Arc<Survey>>>,
}

impl Machines {
    /// Nothing is looked for yet: [`Self::run`] does.
    pub(crate) fn new(settings: &MachineSettings, data_directory: &Path, runtime_directory: &Path) -> Self {
        Self {
            settings: settings.clone(),
            data_directory: data_directory.to_owned(),
            runtime_directory: runtime_directory.to_owned(),
            survey: watch::Sender::new(None),
        }
    }

    /// Finds out what runs microVMs, says so, and tells everyone who waits for it.
    pub(crate) async fn run(&self) {
        probe::sweep(&self.runtime_directory);
        probe::sweep(&self.data_directory);
        let cache = self.data_directory.join(CACHE);
        let places = SurveyPlaces {
            data_directory: &self.data_directory,
            sockets: &self.runtime_directory,
            files: &self.data_directory,
            cache: Some(&cache),
            tries_again: false,
        };
        let found = survey(&self.settings, places).await;
        match self.platform_of(&found, None) {
            Ok((_, choice)) => {
                let why = choice.reasons.iter().map(|reason| chain(reason)).collect::<Vec<_>>().join("; ");
                tracing::info!(why, "microVMs run with {}", choice.engine());
            }
            // What was named in the configuration and isn't there is a mistake; else the host may just not be for it.
            Err(error) if self.settings != MachineSettings::default() => {
                tracing::warn!(
                    why = chain(&error),
                    "microVMs can't be run; `hypercore doctor` says what is missing"
                );
            }
            Err(error) => tracing::info!(why = chain(&error), "microVMs can't be run"),
        }
        if let Some(error) = &found.unfit {
            tracing::warn!(why = chain(error), "no microVM will come up");
        }
        self.survey.send_replace(Some(Arc::new(found)));
    }

    /// What runs a microVM of which this engine was asked for, or none in particular. Waits until that is known.
    pub(crate) async fn choose(&self, asked: Option<Monitor>) -> Result<(Platform, Choice), Unavailable> {
        let mut watch = self.survey.subscribe();
        let known = watch.wait_for(Option::is_some).await.map_err(|_| Unavailable::GoingDown)?.clone();
        let survey = known.ok_or(Unavailable::GoingDown)?;
        self.platform_of(&survey, asked)
    }

    /// What runs microVMs of which nobody says more, and why nothing better does, or nothing at all. Doesn't wait.
    pub(crate) fn described(&self) -> (String, String) {
        let Some(survey) = self.survey.borrow().clone() else {
            return (String::new(), "the node has not found out yet".to_owned());
        };
        match self.platform_of(&survey, None) {
            Ok((_, choice)) => {
                let reasons: Vec<_> = choice.reasons.iter().map(NoEngine::in_short).collect();
                (choice.engine(), reasons.join("; "))
            }
            Err(error) => (String::new(), chain(&error)),
        }
    }

    /// How long a guest may take to its first word.
    pub(crate) const fn boot_time_max(&self) -> Duration {
        self.settings.boot_time_max
    }

    /// Whether [`Self::choose`] would have to wait.
    pub(crate) fn is_known(&self) -> bool {
        self.survey.borrow().is_some()
    }

    fn platform_of(
        &self,
        survey: &Survey,
        asked: Option<Monitor>,
    ) -> Result<(Platform, Choice), Unavailable> {
        let choice = survey.choose(asked.or(self.settings.monitor))?;
        let platform = Platform {
            monitor: choice.monitor,
            program: choice.found.program.clone(),
            version: choice.found.version,
            accelerator: choice.accelerator,
            kernel: survey.kernel.clone()?,
            agent: survey.agent.clone().map_err(Unavailable::NoAgent)?,
            cache: self.data_directory.join(CACHE),
            boot_time_max: self.settings.boot_time_max,
        };
        Ok((platform, choice))
    }
}

/// Finds out what microVMs could be run with: looks for the engines, and boots a guest with each and KVM unless that is
/// known. Takes some milliseconds, or some seconds for each engine whose guest doesn't answer.
pub async fn survey(settings: &MachineSettings, places: SurveyPlaces<'_>) -> Survey {
    let kernel = find_kernel(settings.kernel.as_deref(), places.data_directory).map_err(Arc::new);
    let agent = find_program("hypercore-guest");
    let unfit = match (&kernel, &agent) {
        (Ok(kernel), Ok(agent)) => {
            let packed = probe::pack(kernel, agent, places.cache, places.files).await;
            packed.err().and_then(|error| match error {
                ProbeError::Initramfs(error) => Some(Arc::new(error)),
                // Of the host, and not of what was packed: whoever needs it next is told.
                _ => None,
            })
        }
        _ => None,
    };
    let device = open_kvm();
    let mut engines = Vec::new();
    for monitor in Monitor::ALL {
        let found = tokio::task::spawn_blocking(move || find_monitor(monitor)).await;
        let found = found.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        let kvm = match (&device, &found, &kernel, &agent) {
            (Err(fault), ..) => Err(fault.clone()),
            (Ok(()), Ok(found), Ok(kernel), Ok(agent)) => {
                attempt(&Probe { monitor, found, kernel, agent, places }).await
            }
            (Ok(()), Err(error), ..) => Err(KvmFault::Untried(error.to_string())),
            (Ok(()), _, Err(error), _) => Err(KvmFault::Untried(error.to_string())),
            (Ok(()), _, _, Err(path)) => Err(KvmFault::Untried(format!("{} is not there", path.display()))),
        };
        engines.push(SurveyedEngine { monitor, found: found.map_err(Arc::new), kvm });
    }
    Survey { kernel, agent, unfit, engines }
}

/// What is known of a guest with KVM, or what a trial says now.
async fn attempt(probe: &Probe<'_>) -> Result<(), KvmFault> {
    let places = probe.places;
    let subject = Subject::now(probe.monitor, probe.found, probe.kernel)
        .map_err(|error| KvmFault::Untried(error.to_string()))?;
    let known = Record::read(places.data_directory).of(&subject).cloned();
    let fault = match known {
        Some(Trial { fault, .. }) if fault.is_none() || !places.tries_again => fault,
        _ => {
            tracing::info!(engine = %probe.monitor, "finding out whether KVM works: booting a guest");
            let fault = probe.run().await.map_err(|error| KvmFault::Untried(chain(&error)))?;
            keep(Trial { subject, fault: fault.clone() }, places.data_directory);
            fault
        }
    };
    fault.map_or(Ok(()), |fault| Err(KvmFault::Guest(fault)))
}

/// A host without a data directory keeps nothing: there is no node yet.
fn keep(trial: Trial, data_directory: &Path) {
    if !data_directory.is_dir() {
        return;
    }
    let mut record = Record::read(data_directory);
    record.note(trial);
    if let Err(error) = record.write(data_directory) {
        tracing::warn!(%error, "could not keep what a trial of KVM said; the next start tries again");
    }
}

fn open_kvm() -> Result<(), KvmFault> {
    match File::options().read(true).write(true).open(KVM) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(KvmFault::NoDevice),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(KvmFault::Denied),
        Err(error) => Err(KvmFault::Device(error.to_string())),
    }
}

/// The kernel that microVMs boot on a node with this data directory: the one that the configuration names, or the one
/// in the data directory, or the one that a package brought.
///
/// # Errors
/// [`KernelError`], of the first of these that is there.
pub fn find_kernel(named: Option<&Path>, data_directory: &Path) -> Result<Kernel, KernelError> {
    let own = data_directory.join(KERNEL_OF_NODE);
    match named {
        Some(path) if path.is_dir() => Kernel::in_tree(path),
        Some(path) => Kernel::at(path),
        None if own.is_dir() => Kernel::in_tree(&own),
        None if Path::new(KERNEL_OF_HOST).is_dir() => Kernel::in_tree(Path::new(KERNEL_OF_HOST)),
        None => Err(KernelError::Missing(own)),
    }
}

#[cfg(test)]
mod tests;
