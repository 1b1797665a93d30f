//! The checks of what microVMs need. What is missing is a warning: containers do without.

use std::path::Path;

use hypercore_agent::{
    InitramfsError, KvmFault, MachineSettings, NoEngine, Survey, SurveyPlaces, chain, find_file_server,
    find_program, survey,
};
use hypercore_model::machine::Monitor;

use super::{Finding, fix::Fix};

/// Where a trial of KVM has its sockets: nobody but root can write there.
const SOCKETS: &str = "/run";
/// Where it has its files, without a data directory.
const FILES: &str = "/var/tmp";
/// The hint of everything that `doctor --fix` installs.
const INSTALL_QEMU: &str = "install it: `apt-get install --no-install-recommends qemu-system-x86`";

/// Engine, processor, kernel, guest agent and tools. Boots a guest where that was not done since the host was booted,
/// or failed then.
pub(super) async fn all(settings: &MachineSettings, data_directory: &Path) -> Vec<Finding> {
    // A node that isn't there yet is not begun by this.
    let files = if data_directory.is_dir() { data_directory } else { Path::new(FILES) };
    let sockets = Path::new(SOCKETS);
    let places = SurveyPlaces { data_directory, sockets, files, cache: None, tries_again: true };
    let found = survey(settings, places).await;
    let mut findings = vec![engine(settings, &found), kvm(&found)];
    findings.extend(jailer(&found));
    findings.extend([disks(), virtiofsd(), holder(), agent(&found)]);
    findings.push(kernel(settings.kernel.as_deref(), data_directory, &found));
    findings
}

/// What runs a microVM of which nobody says more, and why that.
fn engine(settings: &MachineSettings, found: &Survey) -> Finding {
    let asked = settings.monitor;
    match found.choose(asked) {
        Ok(choice) => {
            let mut reasons: Vec<_> = choice.reasons.iter().map(NoEngine::in_short).collect();
            reasons.extend(asked.map(|_| "[runtime] vmm says so".to_owned()));
            let why = if reasons.is_empty() { String::new() } else { format!(": {}", reasons.join("; ")) };
            Finding::ok("vmm", format!("microVMs run with {}{why}", choice.engine()))
        }
        Err(error @ NoEngine::None(_)) => {
            Finding::warn("vmm", chain(&error), INSTALL_QEMU).fixed_by(Fix::Install("qemu-system-x86"))
        }
        Err(error @ (NoEngine::Monitor(_) | NoEngine::NeedsKvm { .. })) if asked == Some(Monitor::Qemu) => {
            Finding::warn("vmm", chain(&error), INSTALL_QEMU).fixed_by(Fix::Install("qemu-system-x86"))
        }
        Err(error) => {
            let hint = "install it, or leave [runtime] vmm out to have the best that works";
            Finding::warn("vmm", chain(&error), hint)
        }
    }
}

/// Whether guests run on the processor itself: what the engines that are installed came to.
fn kvm(found: &Survey) -> Finding {
    let mut installed = found.engines.iter().filter(|engine| engine.found.is_ok());
    let works: Vec<_> = installed.clone().filter(|engine| engine.kvm.is_ok()).collect();
    if let Some(engine) = works.first() {
        return Finding::ok("kvm", format!("a guest came up with {} and /dev/kvm", engine.monitor));
    }
    let fault = installed.find_map(|engine| engine.kvm.clone().err());
    let fault = fault.or_else(|| found.engines.iter().find_map(|engine| engine.kvm.clone().err()));
    let fault = fault.unwrap_or(KvmFault::NoDevice);
    let hint = match fault {
        KvmFault::NoDevice => {
            "load kvm_intel or kvm_amd; on a virtual machine, have its host turn nested virtualization on"
        }
        KvmFault::Denied => "run it as root, which the node does: `sudo hypercore doctor`",
        KvmFault::Device(_) => "`dmesg | grep kvm` may say why",
        KvmFault::Guest(_) => {
            "this host can't run guests on its processor, often because it is itself a guest"
        }
        KvmFault::Untried(_) => "mend what is said, then try `hypercore doctor` again",
    };
    Finding::warn("kvm", format!("{fault}; microVMs run in software emulation, which is slow"), hint)
}

/// Firecracker's own boundary, where Firecracker is.
fn jailer(found: &Survey) -> Option<Finding> {
    let firecracker = found.engines.iter().find(|engine| engine.monitor == Monitor::Firecracker)?;
    match firecracker.found.as_ref().map_err(|error| error.as_ref()) {
        Ok(found) => {
            Some(Finding::ok("jailer", found.program.with_file_name("jailer").display().to_string()))
        }
        Err(error @ hypercore_agent::MonitorError::NoJailer(_)) => {
            let hint = "put the jailer of the same release beside firecracker";
            Some(Finding::warn("jailer", error.to_string(), hint))
        }
        Err(_) => None,
    }
}

fn disks() -> Finding {
    match ["/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4"].iter().find(|path| Path::new(path).is_file()) {
        Some(path) => Finding::ok("mkfs.ext4", *path),
        None => Finding::warn(
            "mkfs.ext4",
            "mkfs.ext4, which makes the disks of microVMs, is not there",
            "install it: `apt-get install e2fsprogs`",
        )
        .fixed_by(Fix::Install("e2fsprogs")),
    }
}

fn virtiofsd() -> Finding {
    match find_file_server() {
        Some(path) => Finding::ok("virtiofsd", path.display().to_string()),
        None => Finding::warn(
            "virtiofsd",
            "virtiofsd, which gives directories of the host to microVMs, is not there",
            "install the package virtiofsd, or qemu-system-common before Debian 13",
        ),
    }
}

/// What holds each machine.
fn holder() -> Finding {
    match find_program("hypercore-vmm") {
        Ok(path) => Finding::ok("hypercore-vmm", path.display().to_string()),
        Err(path) => Finding::warn(
            "hypercore-vmm",
            format!("{}, which holds microVMs, is not there", path.display()),
            "install hypercore-vmm beside the hypercore program",
        ),
    }
}

fn agent(found: &Survey) -> Finding {
    match &found.agent {
        Ok(_) if found.unfit.as_deref().is_some_and(InitramfsError::is_of_agent) => {
            let told = found.unfit.as_deref().map(|error| chain(error)).unwrap_or_default();
            Finding::warn("hypercore-guest", told, "install it anew, with the hypercore program")
        }
        Ok(path) => Finding::ok("hypercore-guest", path.display().to_string()),
        Err(path) => Finding::warn(
            "hypercore-guest",
            format!("{}, the first process of microVMs, is not there", path.display()),
            "install hypercore-guest beside the hypercore program",
        ),
    }
}

fn kernel(named: Option<&Path>, data_directory: &Path, found: &Survey) -> Finding {
    match &found.kernel {
        Ok(kernel) if found.unfit.as_deref().is_some_and(|error| !error.is_of_agent()) => {
            let told = found.unfit.as_deref().map(|error| chain(error)).unwrap_or_default();
            let hint = "take the distribution's for clouds: without [runtime] kernel, `hypercore doctor --fix` fetches it";
            Finding::warn(
                "guest kernel",
                format!("{} at {}: {told}", kernel.release, kernel.image.display()),
                hint,
            )
        }
        Ok(kernel) => {
            Finding::ok("guest kernel", format!("{} at {}", kernel.release, kernel.image.display()))
        }
        Err(error) if named.is_some() => Finding::warn(
            "guest kernel",
            error.to_string(),
            "name another one in [runtime] kernel, or none: then `hypercore doctor --fix` fetches one",
        ),
        Err(error) => {
            let own = data_directory.join("kernel");
            let hint = "`hypercore doctor --fix` fetches the distribution's for clouds";
            let finding = Finding::warn("guest kernel", error.to_string(), hint);
            // What is there was put there by somebody, and is not ours to replace.
            if own.exists() { finding } else { finding.fixed_by(Fix::FetchKernel(own)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hypercore_agent::{FoundMonitor, SurveyedEngine, find_kernel};
    use hypercore_model::machine::MonitorVersion;

    use super::*;

    fn survey_of(kernel: Option<&Path>, data_directory: &Path, kvm: Result<(), KvmFault>) -> Survey {
        let version = MonitorVersion { major: 7, minor: 2, patch: 22 };
        let found = FoundMonitor { program: "/usr/bin/qemu-system-x86_64".into(), version };
        Survey {
            kernel: find_kernel(kernel, data_directory).map_err(Arc::new),
            agent: Err("/usr/libexec/hypercore/hypercore-guest".into()),
            unfit: None,
            engines: vec![SurveyedEngine { monitor: Monitor::Qemu, found: Ok(found), kvm }],
        }
    }

    #[test]
    fn a_kernel_is_fetched_only_where_there_is_none() {
        let scratch = tempfile::tempdir().unwrap();
        let kernel = |named: Option<&Path>| {
            super::kernel(named, scratch.path(), &survey_of(named, scratch.path(), Ok(())))
        };
        let own = scratch.path().join("kernel");
        let named = kernel(Some(&scratch.path().join("nosuch")));
        assert_eq!(named.fix, None, "a name in the configuration is a mistake that a person must mend");
        if !Path::new("/usr/lib/hypercore/kernel").exists() {
            assert_eq!(kernel(None).fix, Some(Fix::FetchKernel(own.clone())));
        }
        std::fs::create_dir(&own).unwrap();
        assert_eq!(kernel(None).fix, None);
    }

    #[test]
    fn a_device_on_which_no_guest_comes_up_is_a_warning_and_qemu_runs_them_all_the_same() {
        let scratch = tempfile::tempdir().unwrap();
        let fault = KvmFault::Guest("the guest did not answer within 5 seconds".into());
        let found = survey_of(None, scratch.path(), Err(fault));
        let told = kvm(&found);
        assert_eq!(told.status, super::super::Status::Warn);
        assert!(told.message.starts_with("/dev/kvm opens, but the guest did not answer"), "{}", told.message);
        let told = engine(&MachineSettings::default(), &found);
        assert_eq!(told.status, super::super::Status::Ok);
        assert!(
            told.message.starts_with("microVMs run with QEMU 7.2.22 in software: KVM does not work"),
            "{}",
            told.message
        );
        let works = kvm(&survey_of(None, scratch.path(), Ok(())));
        assert_eq!(works.message, "a guest came up with QEMU and /dev/kvm");
    }

    #[test]
    fn each_reason_for_no_kvm_says_what_to_do() {
        let scratch = tempfile::tempdir().unwrap();
        for fault in [KvmFault::NoDevice, KvmFault::Denied, KvmFault::Device("busy".into())] {
            let told = kvm(&survey_of(None, scratch.path(), Err(fault)));
            assert!(told.message.contains("/dev/kvm") && told.hint.is_some(), "{told:?}");
        }
    }
}
