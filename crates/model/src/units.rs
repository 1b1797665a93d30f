//! Quantities that people type with units: CPU shares and memory sizes.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize, de::Error as _};

use crate::limits::{CPU_MILLIS_MAX, CPU_MILLIS_MIN, MEMORY_BYTES_MAX, MEMORY_BYTES_MIN};

/// Why a text or number is not a quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a decimal number of CPUs.
    #[error("`{0}` is not a number of CPUs (such as 0.5 or 2)")]
    Cpu(String),
    /// Outside what can be asked for.
    #[error("{0} CPUs is out of range: at least 0.01, at most 1024")]
    CpuRange(String),
    /// Not a size with a known unit.
    #[error("`{0}` is not a memory size (such as 256MiB, 512m or 1GiB)")]
    Memory(String),
    /// Outside what can be asked for.
    #[error("a memory size of {0} is out of range: at least 6MiB, at most 64TiB")]
    MemoryRange(String),
}

/// An amount of CPU time: thousandths of one CPU. 500 is half of one CPU, however many the host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct CpuMillis(u32);

impl CpuMillis {
    /// Checks a number of thousandths of a CPU.
    ///
    /// # Errors
    /// [`UnitError::CpuRange`] outside 10..=1,024,000.
    pub fn new(millis: u32) -> Result<Self, UnitError> {
        if (CPU_MILLIS_MIN..=CPU_MILLIS_MAX).contains(&millis) {
            Ok(Self(millis))
        } else {
            Err(UnitError::CpuRange(format!("{}", f64::from(millis) / 1000.0)))
        }
    }

    /// Thousandths of one CPU.
    #[must_use]
    pub const fn millis(self) -> u32 {
        self.0
    }
}

impl fmt::Display for CpuMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (f64::from(self.0) / 1000.0).fmt(f)
    }
}

impl FromStr for CpuMillis {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let is_decimal = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let cpus: f64 = match text.parse() {
            Ok(cpus) if is_decimal => cpus,
            _ => return Err(UnitError::Cpu(text.to_owned())),
        };
        let millis = (cpus * 1000.0).round();
        if millis > f64::from(CPU_MILLIS_MAX) {
            return Err(UnitError::CpuRange(text.to_owned()));
        }
        // In range: 0 <= millis <= CPU_MILLIS_MAX was just checked, and digits alone can't be negative.
        Self::new(millis as u32).map_err(|_| UnitError::CpuRange(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for CpuMillis {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(u32::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// An amount of memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct MemoryBytes(u64);

impl MemoryBytes {
    /// Checks a number of bytes.
    ///
    /// # Errors
    /// [`UnitError::MemoryRange`] outside 6 MiB ..= 64 TiB.
    pub fn new(bytes: u64) -> Result<Self, UnitError> {
        if (MEMORY_BYTES_MIN..=MEMORY_BYTES_MAX).contains(&bytes) {
            Ok(Self(bytes))
        } else {
            Err(UnitError::MemoryRange(format_size(bytes)))
        }
    }

    /// The number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl fmt::Display for MemoryBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format_size(self.0))
    }
}

impl FromStr for MemoryBytes {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (number, scale) = split_size(text).ok_or_else(|| UnitError::Memory(text.to_owned()))?;
        let bytes = number.checked_mul(scale).ok_or_else(|| UnitError::MemoryRange(text.to_owned()))?;
        Self::new(bytes).map_err(|_| UnitError::MemoryRange(text.to_owned()))
    }
}

/// Reads a size such as `64MiB` as bytes, without the bounds of a memory limit; `None` when it is no size or more than
/// 64 bits can say.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, scale) = split_size(text)?;
    number.checked_mul(scale)
}

/// A size's number, and the bytes in one of its unit.
fn split_size(text: &str) -> Option<(u64, u64)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    Some((text[..digits].parse().ok()?, unit_scale(&text[digits..])?))
}

impl<'de> Deserialize<'de> for MemoryBytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(u64::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// Bytes in one of a unit. Docker's single letters are powers of 1024; IEC and SI names mean what they say.
fn unit_scale(unit: &str) -> Option<u64> {
    Some(match unit {
        "" | "b" | "B" => 1,
        "k" | "K" | "KiB" => 1 << 10,
        "m" | "M" | "MiB" => 1 << 20,
        "g" | "G" | "GiB" => 1 << 30,
        "t" | "T" | "TiB" => 1 << 40,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return None,
    })
}

/// A byte count in the largest IEC unit that gives at least 1, with at most one decimal: `256MiB`, `1.5GiB`.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut scale = 0;
    while scale + 1 < UNITS.len() && bytes >> (10 * (scale + 1)) > 0 {
        scale += 1;
    }
    let one = 1u64 << (10 * scale);
    if bytes.is_multiple_of(one) {
        format!("{}{}", bytes / one, UNITS[scale])
    } else {
        format!("{:.1}{}", bytes as f64 / one as f64, UNITS[scale])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_cpu_is_500_thousandths() {
        assert_eq!("0.5".parse::<CpuMillis>().unwrap().millis(), 500);
        assert_eq!("2".parse::<CpuMillis>().unwrap().to_string(), "2");
    }

    #[test]
    fn cpu_text_that_is_no_amount_is_refused() {
        for text in ["", "x", "-1", "1e3", "NaN", "inf", "1.2.3"] {
            assert!(matches!(text.parse::<CpuMillis>(), Err(UnitError::Cpu(_))), "{text}");
        }
        for text in ["0", "0.001", "1025", "99999999999999999999"] {
            assert!(matches!(text.parse::<CpuMillis>(), Err(UnitError::CpuRange(_))), "{text}");
        }
    }

    #[test]
    fn memory_sizes_in_every_spelling() {
        for (text, bytes) in [
            ("256MiB", 256 << 20),
            ("512m", 512 << 20),
            ("1g", 1 << 30),
            ("10MB", 10_000_000),
            ("8388608", 8 << 20),
        ] {
            assert_eq!(text.parse::<MemoryBytes>().unwrap().bytes(), bytes, "{text}");
        }
    }

    #[test]
    fn memory_text_that_is_no_size_is_refused() {
        for text in ["", "MiB", "12 MiB", "-5m", "1.5g", "12mib", "1x"] {
            assert!(matches!(text.parse::<MemoryBytes>(), Err(UnitError::Memory(_))), "{text}");
        }
        for text in ["1m", "0", "65TiB", "99999999999g"] {
            assert!(matches!(text.parse::<MemoryBytes>(), Err(UnitError::MemoryRange(_))), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_in_the_largest_fitting_unit() {
        assert_eq!(format_size(256 << 20), "256MiB");
        assert_eq!(format_size(1536 << 20), "1.5GiB");
        assert_eq!(format_size(0), "0B");
    }
}
