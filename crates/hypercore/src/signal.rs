//! Signals as people write them: `TERM`, `SIGTERM`, `15`.

use std::str::FromStr;

use nix::sys::signal::Signal;

/// The highest signal number of Linux: the last real-time signal.
const SIGNAL_MAX: i32 = 64;

/// A signal's number, 1 to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SignalNumber(i32);

impl SignalNumber {
    /// The number.
    pub(crate) const fn number(self) -> i32 {
        self.0
    }
}

impl FromStr for SignalNumber {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(number) = text.parse::<i32>() {
            let is_signal = (1..=SIGNAL_MAX).contains(&number);
            return if is_signal {
                Ok(Self(number))
            } else {
                Err(format!("signals have numbers from 1 to {SIGNAL_MAX}"))
            };
        }
        let upper = text.to_ascii_uppercase();
        let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
        let signal = Signal::from_str(&name);
        signal
            .map(|signal| Self(signal as i32))
            .map_err(|_| "write a name such as TERM or a number such as 15".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_mean_the_same() {
        for text in ["TERM", "term", "SIGTERM", "15"] {
            assert_eq!(text.parse(), Ok(SignalNumber(15)), "{text}");
        }
        assert_eq!("64".parse(), Ok(SignalNumber(64)));
        for text in ["", "0", "65", "-9", "SIGNAL"] {
            assert!(text.parse::<SignalNumber>().is_err(), "{text}");
        }
    }
}
