//! How much of disk and network a workload may take. It refuses limits that nothing could live with; whether a kind of
//! workload can be given one is the node's to say.

use serde::{Deserialize, Serialize};

use crate::{
    limits::{
        DISK_SIZE_BYTES_MAX, DISK_SIZE_BYTES_MIN, RATE_BYTES_PER_S_MAX, RATE_BYTES_PER_S_MIN,
        RATE_OPS_PER_S_MAX, RATE_OPS_PER_S_MIN,
    },
    spec::Isolation,
    units::{format_size, parse_size},
};

/// Why a limit is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IoLimitError {
    /// A disk of a size that can't be.
    #[error("a disk of {} is out of range: at least {}, at most {}", format_size(*.0), format_size(DISK_SIZE_BYTES_MIN), format_size(DISK_SIZE_BYTES_MAX))]
    Size(u64),
    /// A rate below what anything can live with, or beyond what can be counted.
    #[error("{what} of {} a second is out of range: at least {}, at most {}", format_size(*.bytes_per_s), format_size(RATE_BYTES_PER_S_MIN), format_size(RATE_BYTES_PER_S_MAX))]
    Bytes {
        /// Which rate.
        what: &'static str,
        /// What was asked for.
        bytes_per_s: u64,
    },
    /// A limit of disks, for what has none of its own.
    #[error(
        "{0} can't be given to a container, which writes to the node's disk: run it with --isolation microvm"
    )]
    Container(&'static str),
    /// Too few operations to boot with, or too many to count.
    #[error(
        "{0} disk operations a second are out of range: at least {RATE_OPS_PER_S_MIN}, at most {RATE_OPS_PER_S_MAX}"
    )]
    Operations(u64),
}

/// Limits of disk and network; `None` is no limit of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct IoLimits {
    /// Most that it can write besides its image and its mounts, in bytes; `None` is the node's default.
    #[serde(default)]
    pub disk_size_bytes: Option<u64>,
    /// Most that its disks read and write together, in bytes a second.
    #[serde(default)]
    pub disk_bytes_per_s: Option<u64>,
    /// Most operations of its disks together, a second.
    #[serde(default)]
    pub disk_ops_per_s: Option<u64>,
    /// Most that it sends, and most that it receives, in bytes a second.
    #[serde(default)]
    pub network_bytes_per_s: Option<u64>,
}

impl IoLimits {
    /// Everything that is wrong with them, for a workload of this kind.
    pub(crate) fn mistakes(&self, isolation: Isolation) -> impl Iterator<Item = IoLimitError> {
        let of_disks = [
            ("a disk's size", self.disk_size_bytes),
            ("a disk's rate", self.disk_bytes_per_s),
            ("a rate of disk operations", self.disk_ops_per_s),
        ];
        let has_disks = isolation == Isolation::MicroVm;
        let refused = of_disks.into_iter().filter(move |(_, limit)| !has_disks && limit.is_some());
        let size = self.disk_size_bytes.and_then(|bytes| check_disk_size(bytes).err());
        let operations =
            self.disk_ops_per_s.filter(|ops| !(RATE_OPS_PER_S_MIN..=RATE_OPS_PER_S_MAX).contains(ops));
        let rate = |what, bytes_per_s: Option<u64>| {
            let is_bad = |rate: &u64| !(RATE_BYTES_PER_S_MIN..=RATE_BYTES_PER_S_MAX).contains(rate);
            bytes_per_s.filter(is_bad).map(|bytes_per_s| IoLimitError::Bytes { what, bytes_per_s })
        };
        let rates =
            [rate("a disk rate", self.disk_bytes_per_s), rate("a network rate", self.network_bytes_per_s)];
        let refused = refused.map(|(what, _)| IoLimitError::Container(what));
        let of_rates = rates.into_iter().flatten().chain(operations.map(IoLimitError::Operations));
        size.into_iter().chain(of_rates).chain(refused)
    }
}

/// Checks the size of a disk, a workload's own or a volume's.
///
/// # Errors
/// [`IoLimitError::Size`].
pub fn check_disk_size(bytes: u64) -> Result<(), IoLimitError> {
    if (DISK_SIZE_BYTES_MIN..=DISK_SIZE_BYTES_MAX).contains(&bytes) {
        Ok(())
    } else {
        Err(IoLimitError::Size(bytes))
    }
}

/// Reads a rate such as `10MiB` or `10MiB/s` as bytes a second; `None` when it is none.
#[must_use]
pub fn parse_rate(text: &str) -> Option<u64> {
    parse_size(text.strip_suffix("/s").unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_outside_its_range_is_told() {
        assert_eq!(IoLimits::default().mistakes(Isolation::Container).count(), 0);
        let wrong = IoLimits {
            disk_size_bytes: Some(1),
            disk_bytes_per_s: Some(0),
            disk_ops_per_s: Some(0),
            network_bytes_per_s: Some(u64::MAX),
        };
        let told: Vec<_> = wrong.mistakes(Isolation::MicroVm).map(|mistake| mistake.to_string()).collect();
        assert_eq!(told.len(), 4, "{told:?}");
        assert_eq!(told[0], "a disk of 1B is out of range: at least 16MiB, at most 8TiB");
        let good = IoLimits {
            disk_size_bytes: Some(DISK_SIZE_BYTES_MIN),
            disk_bytes_per_s: Some(RATE_BYTES_PER_S_MIN),
            disk_ops_per_s: Some(RATE_OPS_PER_S_MIN),
            network_bytes_per_s: Some(RATE_BYTES_PER_S_MAX),
        };
        assert_eq!(good.mistakes(Isolation::MicroVm).count(), 0);
        let told: Vec<_> = good.mistakes(Isolation::Container).collect();
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told.iter().all(|mistake| matches!(mistake, IoLimitError::Container(_))), "{told:?}");
    }

    #[test]
    fn a_rate_may_say_that_it_is_one() {
        assert_eq!(parse_rate("10MiB/s"), Some(10 << 20));
        assert_eq!(parse_rate("1kB"), Some(1000));
        for text in ["", "/s", "10MiB/m", "fast"] {
            assert_eq!(parse_rate(text), None, "{text}");
        }
    }
}
