//! A point in time as people and docker write it: `10m` (before now), `2026-01-31T12:00:00Z`, `1769860800.5`.

use std::{str::FromStr, time::Duration};

use hypercore_model::Timestamp;

/// A point in time, or a length of time before now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PointInTime {
    At(Timestamp),
    Ago(Duration),
}

impl PointInTime {
    /// The point itself, as seen from `now`.
    pub(crate) fn before(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(length) => {
                let length_ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
                Timestamp::from_unix_ms(now.unix_ms().saturating_sub(length_ms))
            }
        }
    }
}

impl FromStr for PointInTime {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(unix_ms) = unix_ms(text) {
            return Ok(Self::At(Timestamp::from_unix_ms(unix_ms)));
        }
        // A day alone is its beginning.
        let time = humantime::parse_rfc3339_weak(text)
            .or_else(|_| humantime::parse_rfc3339_weak(&format!("{text}T00:00:00")));
        if let Ok(time) = time {
            return Ok(Self::At(Timestamp::from_system_time(time)));
        }
        humantime::parse_duration(text).map(Self::Ago).map_err(
            |_| "write a length such as 10m, a time such as 2026-01-31T12:00:00Z, or seconds since 1970",
        )
    }
}

/// Seconds since 1970 with an optional fraction, in milliseconds.
fn unix_ms(text: &str) -> Option<u64> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if seconds.is_empty() || !is_number(seconds) || !is_number(fraction) {
        return None;
    }
    let thousandths = format!("{fraction:0<3}").get(..3)?.parse::<u64>().ok()?;
    seconds.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(thousandths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_of_docker_are_understood() {
        let now = Timestamp::from_unix_ms(1_000_000);
        for (text, unix_ms) in [
            ("10s", 990_000),
            ("1m30s", 910_000),
            ("100000h", 0),
            ("1970-01-01T00:00:01Z", 1000),
            ("1970-01-01T00:00:01", 1000),
            ("1970-01-01 00:00:01.5", 1500),
            ("1970-01-02", 86_400_000),
            ("7", 7000),
            ("7.25", 7250),
            ("7.123456789", 7123),
        ] {
            assert_eq!(text.parse::<PointInTime>().unwrap().before(now).unix_ms(), unix_ms, "{text}");
        }
        for text in ["", "yesterday", "1e3", "-5", "10x", "99999999999999999999"] {
            assert!(text.parse::<PointInTime>().is_err(), "{text}");
        }
    }
}
