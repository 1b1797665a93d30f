//! The programs that run machines, where the host has them. Each is asked for its release before it is used.
//! It refuses to find out whether they work: that needs a machine that boots.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use hypercore_model::machine::{Monitor, MonitorVersion, VersionError};

/// Where programs of the host are looked for.
const DIRECTORIES: [&str; 4] = ["/usr/local/bin", "/usr/bin", "/usr/local/sbin", "/usr/sbin"];
/// The program that takes Firecracker's rights away; it comes with it.
const JAILER: &str = "jailer";
/// How long a program may take to say its release.
const VERSION_TIME_MAX: Duration = Duration::from_secs(5);
/// How often is looked whether it has.
const VERSION_INTERVAL: Duration = Duration::from_millis(2);
/// Most that is read of what it says, in bytes.
const VERSION_LEN_MAX: u64 = 4096;

/// A program that can run machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundMonitor {
    /// Where it is.
    pub program: PathBuf,
    /// Of which release.
    pub version: MonitorVersion,
}

/// Why a monitor can't be used.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// Its program is nowhere.
    #[error("{monitor} is not installed: there is no {name} in {}", DIRECTORIES.join(", "))]
    Missing {
        /// Which monitor.
        monitor: Monitor,
        /// Its program's name.
        name: &'static str,
    },
    /// Firecracker without its jailer.
    #[error("Firecracker's jailer is not installed: it must be {}", .0.display())]
    NoJailer(PathBuf),
    /// The program can't be run, or doesn't end.
    #[error("{} --version can't be run", program.display())]
    Run {
        /// Which program.
        program: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A release that can't be used.
    #[error("{} can't be used", program.display())]
    Version {
        /// Which program.
        program: PathBuf,
        /// Why not.
        #[source]
        source: VersionError,
    },
}

/// The monitor's program, where the host has it, with its release. Blocks, for some milliseconds.
///
/// # Errors
/// [`MonitorError`].
pub fn find_monitor(monitor: Monitor) -> Result<FoundMonitor, MonitorError> {
    find_in(&DIRECTORIES.map(Path::new), monitor)
}

fn find_in(directories: &[&Path], monitor: Monitor) -> Result<FoundMonitor, MonitorError> {
    let name = match monitor {
        Monitor::Firecracker => "firecracker",
        Monitor::CloudHypervisor => "cloud-hypervisor",
        Monitor::Qemu => "qemu-system-x86_64",
    };
    let mut places = directories.iter().map(|directory| directory.join(name));
    let program = places.find(|path| path.is_file()).ok_or(MonitorError::Missing { monitor, name })?;
    if monitor == Monitor::Firecracker {
        // Only a jailer of the same release goes with it, so that none is looked for elsewhere.
        let jailer = program.with_file_name(JAILER);
        if !jailer.is_file() {
            return Err(MonitorError::NoJailer(jailer));
        }
    }
    let printed =
        ask_version(&program).map_err(|source| MonitorError::Run { program: program.clone(), source })?;
    match monitor.check_version(&printed) {
        Ok(version) => Ok(FoundMonitor { program, version }),
        Err(source) => Err(MonitorError::Version { program, source }),
    }
}

/// What the program prints for `--version`. One that doesn't end in time is killed.
fn ask_version(program: &Path) -> io::Result<String> {
    let mut command = Command::new(program);
    command.arg("--version").env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let deadline = Instant::now() + VERSION_TIME_MAX;
    // One that says more than a pipe holds waits for us, and so runs out of time.
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            // It may have ended by itself just now.
            let _ = child.kill();
            child.wait()?;
            return Err(io::ErrorKind::TimedOut.into());
        }
        thread::sleep(VERSION_INTERVAL);
    }
    let mut printed = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(VERSION_LEN_MAX).read_to_end(&mut printed)?;
    }
    Ok(String::from_utf8_lossy(&printed).into_owned())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn install(directory: &Path, name: &str, says: &str) {
        let path = directory.join(name);
        fs::write(&path, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn a_monitor_is_found_with_its_release() {
        let (empty, full) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let directories = [empty.path(), full.path()];
        let find = |monitor| find_in(&directories, monitor);
        for monitor in [Monitor::Firecracker, Monitor::CloudHypervisor, Monitor::Qemu] {
            assert!(matches!(find(monitor), Err(MonitorError::Missing { .. })));
        }
        install(full.path(), "firecracker", "Firecracker v1.17.0");
        assert!(matches!(find(Monitor::Firecracker), Err(MonitorError::NoJailer(_))));
        install(full.path(), "jailer", "Jailer v1.17.0");
        let found = find(Monitor::Firecracker).unwrap();
        assert_eq!((found.program, found.version.minor), (full.path().join("firecracker"), 17));
        install(full.path(), "cloud-hypervisor", "cloud-hypervisor v49.0");
        assert!(matches!(find(Monitor::CloudHypervisor), Err(MonitorError::Version { .. })));
    }

    #[test]
    fn a_program_that_says_nothing_sensible_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cloud-hypervisor");
        fs::write(&path, "no program").unwrap();
        assert!(matches!(
            find_in(&[directory.path()], Monitor::CloudHypervisor),
            Err(MonitorError::Run { .. })
        ));
        install(directory.path(), "cloud-hypervisor", "Usage: something else");
        assert!(matches!(
            find_in(&[directory.path()], Monitor::CloudHypervisor),
            Err(MonitorError::Version { .. })
        ));
    }
}
