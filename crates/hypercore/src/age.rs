//! Lengths of time as people say them: `5 minutes`, `2 days`. One unit, rounded down, as docker does.

use std::time::{Duration, SystemTime};

use hypercore_model::Timestamp;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// A length of time in its largest unit of which there are at least two (or one, below a minute).
pub(crate) fn of_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => "less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..MINUTE => format!("{seconds} seconds"),
        MINUTE..120 => "1 minute".to_owned(),
        120..HOUR => format!("{} minutes", seconds / MINUTE),
        HOUR..7200 => "1 hour".to_owned(),
        7200..172_800 => format!("{} hours", seconds / HOUR),
        _ => format!("{} days", seconds / DAY),
    }
}

/// How long ago a point in time was, as the local clock sees it.
pub(crate) fn since(then: Timestamp) -> String {
    of_duration(Timestamp::from_system_time(SystemTime::now()).since(then))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_unit_rounded_down() {
        for (seconds, text) in [
            (0, "less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "1 minute"),
            (301, "5 minutes"),
            (3600, "1 hour"),
            (86_400, "24 hours"),
            (172_800, "2 days"),
        ] {
            assert_eq!(of_duration(Duration::from_secs(seconds)), text);
        }
    }
}
