//! What was measured again and again, and what can honestly be said about it.
//!
//! It refuses a percentile that has too few samples behind it.

use std::fmt;
use std::time::Duration;

/// Fewest samples for a median, and for the 99th percentile.
const SAMPLES_MIN: (usize, usize) = (30, 200);

/// Durations of the same thing.
#[derive(Debug, Default)]
pub(super) struct Samples(Vec<Duration>);

impl Samples {
    pub(super) fn push(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    /// The median; zero without samples.
    pub(super) fn p50(&self) -> Duration {
        self.percentile(50)
    }

    /// The nearest-rank percentile.
    fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort();
        let rank = (sorted.len() * percent).div_ceil(100);
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}

impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
        let count = self.0.len();
        if count < SAMPLES_MIN.0 {
            return write!(f, "{:.1} ms ({count} samples)", ms(self.p50()));
        }
        write!(f, "p50 {:.1} ms", ms(self.p50()))?;
        if count >= SAMPLES_MIN.1 {
            write!(f, ", p99 {:.1} ms", ms(self.percentile(99)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(count: u64) -> Samples {
        Samples((1..=count).rev().map(Duration::from_millis).collect())
    }

    #[test]
    fn percentiles_are_nearest_rank() {
        assert_eq!(samples(200).p50(), Duration::from_millis(100));
        assert_eq!(samples(200).percentile(99), Duration::from_millis(198));
        assert_eq!(Samples::default().p50(), Duration::ZERO);
    }

    #[test]
    fn says_no_more_than_the_samples_allow() {
        assert_eq!(samples(3).to_string(), "2.0 ms (3 samples)");
        assert_eq!(samples(30).to_string(), "p50 15.0 ms");
        assert_eq!(samples(200).to_string(), "p50 100.0 ms, p99 198.0 ms");
    }
}
