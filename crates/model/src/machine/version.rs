//! Which release a monitor's program is of, and whether this release of Hypercore can speak with it.
//! It refuses to run anything: who starts the program hands over what it printed.

use std::fmt;

use super::Monitor;

/// Longest first line of `--version` that is looked at, in bytes.
const LINE_LEN_MAX: usize = 256;

/// A release, such as `1.17.0`. What isn't said is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonitorVersion {
    /// What changes when an interface breaks.
    pub major: u32,
    /// What changes when one grows.
    pub minor: u32,
    /// What changes when an error is mended.
    pub patch: u32,
}

/// Why a program can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// It printed something else.
    #[error("the program does not say that it is {monitor}, but: {printed}")]
    Unknown {
        /// What it should be.
        monitor: Monitor,
        /// The beginning of what it printed.
        printed: String,
    },
    /// It is of a release whose interface was not compared with ours.
    #[error("{monitor} {version} is not supported: {} is", .monitor.supported())]
    Unsupported {
        /// What it is.
        monitor: Monitor,
        /// Of which release.
        version: MonitorVersion,
    },
}

impl MonitorVersion {
    const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }
}

impl fmt::Display for MonitorVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl fmt::Display for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Firecracker => "Firecracker",
            Self::CloudHypervisor => "Cloud Hypervisor",
            Self::Qemu => "QEMU",
        })
    }
}

impl Monitor {
    /// The releases that can be used, in words.
    #[must_use]
    pub const fn supported(self) -> &'static str {
        match self {
            // The description that its client is held against is of 1.17. Earlier ones lack fields that are sent.
            Self::Firecracker => "1.17 or a later 1.x",
            // Since 51 a disk can be said to be raw, which keeps guests from making it something else.
            Self::CloudHypervisor => "51.0 or later",
            // Machines and snapshots were tried with 7.2 alone.
            Self::Qemu => "7.0 or later",
        }
    }

    /// Reads what the program printed for `--version`.
    ///
    /// # Errors
    /// [`VersionError`]: another program, or a release that is not supported.
    pub fn check_version(self, printed: &str) -> Result<MonitorVersion, VersionError> {
        let line = printed.lines().next().unwrap_or_default();
        let line: String = line.chars().filter(|c| !c.is_control()).take(LINE_LEN_MAX).collect();
        let before = match self {
            Self::Firecracker => "Firecracker v",
            Self::CloudHypervisor => "cloud-hypervisor v",
            Self::Qemu => "QEMU emulator version ",
        };
        let version = line.strip_prefix(before).and_then(parse);
        let Some(version) = version else {
            return Err(VersionError::Unknown { monitor: self, printed: line });
        };
        let is_supported = match self {
            Self::Firecracker => version.major == 1 && version.minor >= 17,
            Self::CloudHypervisor => version.major >= 51,
            Self::Qemu => version >= MonitorVersion::new(7, 0, 0),
        };
        if is_supported { Ok(version) } else { Err(VersionError::Unsupported { monitor: self, version }) }
    }
}

/// `1.17.0-dev+abc (more)`: numbers until something else comes.
fn parse(text: &str) -> Option<MonitorVersion> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let mut numbers = text[..end].split('.').map(str::parse::<u32>);
    let major = numbers.next()?.ok()?;
    let mut next = || numbers.next().map_or(Some(0), Result::ok);
    Some(MonitorVersion::new(major, next()?, next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_programs_print_is_read() {
        for (monitor, printed, version) in [
            (
                Monitor::Firecracker,
                "Firecracker v1.17.0-dev\n\nSupported snapshot data format versions:",
                "1.17.0",
            ),
            (Monitor::Firecracker, "Firecracker v1.18.2", "1.18.2"),
            (Monitor::CloudHypervisor, "cloud-hypervisor v53.0.0\n", "53.0.0"),
            (Monitor::CloudHypervisor, "cloud-hypervisor v51.1-12-gabc\n", "51.1.0"),
            (Monitor::Qemu, "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\n", "7.2.22"),
        ] {
            assert_eq!(monitor.check_version(printed).unwrap().to_string(), version, "{printed}");
        }
    }

    #[test]
    fn other_releases_and_other_programs_are_refused_by_name() {
        for (monitor, printed) in [
            (Monitor::Firecracker, "Firecracker v1.16.1"),
            (Monitor::Firecracker, "Firecracker v2.0.0"),
            (Monitor::CloudHypervisor, "cloud-hypervisor v50.0"),
            (Monitor::Qemu, "QEMU emulator version 6.2.0"),
        ] {
            let error = monitor.check_version(printed).unwrap_err();
            assert!(matches!(error, VersionError::Unsupported { .. }), "{error}");
            assert!(error.to_string().contains(monitor.supported()), "{error}");
        }
        for printed in
            ["", "Jailer v1.17.0", "Firecracker vNaN", "Firecracker v1.x", "Firecracker v99999999999"]
        {
            let error = Monitor::Firecracker.check_version(printed).unwrap_err();
            assert!(matches!(error, VersionError::Unknown { .. }), "{printed}: {error}");
        }
    }
}
