//! What was found out about the engines of microVMs on this host, and which of them runs one.
//! It refuses to take a device file for a processor that runs guests: KVM counts where a guest came up with it.

use std::{path::PathBuf, sync::Arc};

use hypercore_model::machine::{Accelerator, Monitor};
use hypercore_runtime::machine::{
    initramfs::InitramfsError,
    kernel::{Kernel, KernelError},
};
use serde::{Deserialize, Serialize};

use super::monitors::{FoundMonitor, MonitorError};
use crate::failure::chain;

/// Why guests don't run on the processor itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KvmFault {
    /// The host's processor or kernel has none, or it is itself a guest that isn't given it.
    #[error("there is no /dev/kvm")]
    NoDevice,
    /// The device is another user's.
    #[error("/dev/kvm may not be opened")]
    Denied,
    /// It can't be opened for another reason.
    #[error("/dev/kvm can't be opened: {0}")]
    Device(String),
    /// It can be opened, and a guest was tried.
    #[error("/dev/kvm opens, but {0}")]
    Guest(String),
    /// It can be opened, and nothing could be tried.
    #[error("/dev/kvm opens, but no guest could be tried: {0}")]
    Untried(String),
}

/// One engine on this host.
#[derive(Debug, Clone)]
pub struct SurveyedEngine {
    /// Which one.
    pub monitor: Monitor,
    /// Its program, or why it can't be used.
    pub found: Result<FoundMonitor, Arc<MonitorError>>,
    /// Whether a guest came up with it and KVM.
    pub kvm: Result<(), KvmFault>,
}

/// What microVMs could be run with.
#[derive(Debug, Clone)]
pub struct Survey {
    /// The guests' kernel.
    pub kernel: Result<Kernel, Arc<KernelError>>,
    /// The guest agent's program, or where it should be.
    pub agent: Result<PathBuf, PathBuf>,
    /// Why no guest can be made of these two: a module that the kernel doesn't have, an agent that isn't static.
    pub unfit: Option<Arc<InitramfsError>>,
    /// The engines, the one that is preferred first.
    pub engines: Vec<SurveyedEngine>,
}

/// What runs a microVM.
#[derive(Debug, Clone)]
pub struct Choice {
    /// Which engine.
    pub monitor: Monitor,
    /// Its program and release.
    pub found: FoundMonitor,
    /// With what.
    pub accelerator: Accelerator,
    /// Why nothing that is better runs it; empty when this is the best there is.
    pub reasons: Vec<NoEngine>,
}

/// What runs a machine, without why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunBy {
    pub(crate) monitor: Monitor,
    pub(crate) accelerator: Accelerator,
}

impl From<&Choice> for RunBy {
    fn from(choice: &Choice) -> Self {
        Self { monitor: choice.monitor, accelerator: choice.accelerator }
    }
}

impl Choice {
    /// The engine and how it runs guests, such as `QEMU 7.2.22 with KVM`.
    #[must_use]
    pub fn engine(&self) -> String {
        let how = match self.accelerator {
            Accelerator::Kvm => "with KVM",
            Accelerator::Tcg => "in software",
        };
        format!("{} {} {how}", self.monitor, self.found.version)
    }
}

/// Why nothing runs a microVM.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NoEngine {
    /// The engine that was asked for is not installed, or of a release that can't be used.
    #[error(transparent)]
    Monitor(Arc<MonitorError>),
    /// The engine that was asked for is there and has nothing to run guests with.
    #[error("{monitor} needs KVM: {fault}")]
    NeedsKvm {
        /// Which one.
        monitor: Monitor,
        /// Why there is none.
        fault: KvmFault,
    },
    /// Any would have done.
    #[error("nothing runs microVMs here: {}", in_short(.0))]
    None(Vec<Self>),
}

impl NoEngine {
    /// Why, in as few words as a list has for each.
    #[must_use]
    pub fn in_short(&self) -> String {
        match self {
            Self::Monitor(error) => match error.as_ref() {
                MonitorError::Missing { monitor, .. } => format!("{monitor} is not installed"),
                error => chain(error),
            },
            Self::NeedsKvm { monitor, .. } => format!("KVM does not work with {monitor}"),
            Self::None(reasons) => in_short(reasons),
        }
    }
}

fn in_short(reasons: &[NoEngine]) -> String {
    reasons.iter().map(NoEngine::in_short).collect::<Vec<_>>().join("; ")
}

impl Survey {
    /// What runs a microVM: the engine that was asked for, or the first that works of those that need KVM, then QEMU.
    ///
    /// # Errors
    /// [`NoEngine`].
    pub fn choose(&self, asked: Option<Monitor>) -> Result<Choice, NoEngine> {
        if let Some(monitor) = asked {
            let engine = self.engine(monitor)?;
            return engine.with_kvm().or_else(|_| engine.in_software());
        }
        let mut reasons = Vec::new();
        for engine in &self.engines {
            match engine.with_kvm() {
                Ok(choice) => return Ok(Choice { reasons, ..choice }),
                Err(error) => reasons.push(error),
            }
        }
        let in_software = self.engines.iter().find_map(|engine| engine.in_software().ok());
        match in_software {
            Some(choice) => Ok(Choice { reasons, ..choice }),
            None => Err(NoEngine::None(reasons)),
        }
    }

    fn engine(&self, monitor: Monitor) -> Result<&SurveyedEngine, NoEngine> {
        let found = self.engines.iter().find(|engine| engine.monitor == monitor);
        found.ok_or(NoEngine::None(Vec::new()))
    }
}

impl SurveyedEngine {
    fn with_kvm(&self) -> Result<Choice, NoEngine> {
        let choice = self.with(Accelerator::Kvm)?;
        match &self.kvm {
            Ok(()) => Ok(choice),
            Err(fault) => Err(NoEngine::NeedsKvm { monitor: self.monitor, fault: fault.clone() }),
        }
    }

    /// QEMU alone translates a guest's instructions.
    fn in_software(&self) -> Result<Choice, NoEngine> {
        if self.monitor != Monitor::Qemu {
            return self.with_kvm();
        }
        let monitor = self.monitor;
        let reasons = self.kvm.clone().err().map(|fault| NoEngine::NeedsKvm { monitor, fault });
        Ok(Choice { reasons: reasons.into_iter().collect(), ..self.with(Accelerator::Tcg)? })
    }

    fn with(&self, accelerator: Accelerator) -> Result<Choice, NoEngine> {
        let found = self.found.clone().map_err(NoEngine::Monitor)?;
        Ok(Choice { monitor: self.monitor, found, accelerator, reasons: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use hypercore_model::machine::MonitorVersion;

    use super::*;

    fn survey(engines: [(bool, Result<(), KvmFault>); 3]) -> Survey {
        let surveyed = |(monitor, (is_there, kvm))| {
            let version = MonitorVersion { major: 1, minor: 17, patch: 0 };
            let missing = || Arc::new(MonitorError::NoJailer("/j".into()));
            let found = FoundMonitor { program: "/p".into(), version };
            let found = if is_there { Ok(found) } else { Err(missing()) };
            SurveyedEngine { monitor, found, kvm }
        };
        Survey {
            kernel: Err(Arc::new(KernelError::Missing("/k".into()))),
            agent: Err("/a".into()),
            unfit: None,
            engines: Monitor::ALL.into_iter().zip(engines).map(surveyed).collect(),
        }
    }

    fn chosen(survey: &Survey, asked: Option<Monitor>) -> Option<(Monitor, Accelerator)> {
        survey.choose(asked).ok().map(|choice| (choice.monitor, choice.accelerator))
    }

    const SILENT: fn() -> Result<(), KvmFault> = || Err(KvmFault::Guest("the guest did not answer".into()));

    #[test]
    fn the_first_engine_whose_guest_came_up_is_taken() {
        use Accelerator::{Kvm, Tcg};
        use Monitor::{CloudHypervisor, Firecracker, Qemu};
        let (works, silent) = (|| Ok(()), SILENT);
        for (engines, expected) in [
            ([(true, works()), (true, works()), (true, works())], Some((Firecracker, Kvm))),
            ([(false, works()), (true, works()), (true, works())], Some((CloudHypervisor, Kvm))),
            ([(true, silent()), (false, works()), (true, works())], Some((Qemu, Kvm))),
            ([(true, silent()), (true, silent()), (true, silent())], Some((Qemu, Tcg))),
            ([(true, silent()), (true, silent()), (false, works())], None),
            ([(false, works()), (false, works()), (false, works())], None),
        ] {
            assert_eq!(chosen(&survey(engines), None), expected);
        }
    }

    #[test]
    fn what_is_asked_for_is_taken_or_refused_by_name() {
        let here = survey([(true, SILENT()), (false, Ok(())), (true, SILENT())]);
        assert_eq!(chosen(&here, Some(Monitor::Qemu)), Some((Monitor::Qemu, Accelerator::Tcg)));
        let refused = here.choose(Some(Monitor::Firecracker)).unwrap_err();
        assert!(matches!(refused, NoEngine::NeedsKvm { monitor: Monitor::Firecracker, .. }), "{refused}");
        let refused = here.choose(Some(Monitor::CloudHypervisor)).unwrap_err();
        assert!(matches!(refused, NoEngine::Monitor(_)), "{refused}");
    }

    #[test]
    fn a_choice_says_why_it_is_not_a_better_one() {
        let here = survey([(false, Ok(())), (false, Ok(())), (true, SILENT())]);
        let choice = here.choose(None).unwrap();
        assert_eq!(choice.engine(), "QEMU 1.17.0 in software");
        let reasons = in_short(&choice.reasons);
        assert!(reasons.contains("jailer") && reasons.ends_with("KVM does not work with QEMU"), "{reasons}");
        assert!(chain(&choice.reasons[2]).contains("the guest did not answer"), "{:?}", choice.reasons);
        let best = survey([(true, Ok(())), (true, Ok(())), (true, Ok(()))]);
        assert!(best.choose(None).unwrap().reasons.is_empty());
    }
}
