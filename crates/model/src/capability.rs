//! Linux capabilities by name (capabilities(7)), as docker's `--cap-add` and `--cap-drop` take them.

use std::{fmt, str::FromStr};

use crate::text::serde_as_text;

/// Why a text is not a capability.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a capability: write a name of capabilities(7), such as NET_ADMIN, or ALL")]
pub struct CapabilityError(String);

/// The capabilities of Linux 6.1, in the order of their numbers, without `CAP_`.
pub const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// One capability, or all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(&'static str);

impl Capability {
    /// Every capability.
    pub const ALL: Self = Self("ALL");

    /// The name, in upper case and without `CAP_`; one of [`CAPABILITIES`], or `ALL`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl FromStr for Capability {
    type Err = CapabilityError;

    fn from_str(text: &str) -> Result<Self, CapabilityError> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if name == Self::ALL.0 {
            return Ok(Self::ALL);
        }
        let known = CAPABILITIES.into_iter().find(|known| *known == name);
        known.map(Self).ok_or_else(|| CapabilityError(text.escape_default().to_string()))
    }
}

serde_as_text!(Capability);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_means_the_same() {
        for text in ["NET_ADMIN", "net_admin", "CAP_NET_ADMIN", "cap_net_admin"] {
            assert_eq!(text.parse::<Capability>().unwrap().as_str(), "NET_ADMIN");
        }
        assert_eq!("all".parse(), Ok(Capability::ALL));
        for text in ["", "CAP_", "ROOT", "NET ADMIN"] {
            assert!(text.parse::<Capability>().is_err(), "{text}");
        }
    }
}
