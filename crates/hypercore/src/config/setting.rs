//! How one value is read, from TOML or from the text of an environment variable: the same check for both.
//! It refuses to convert between kinds: `fsync = "yes"` is a mistake, not a boolean.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Serialize, Serializer};
use toml::de::DeValue;

/// A value as it was found.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Raw<'a> {
    /// In the file.
    Toml(&'a DeValue<'a>),
    /// In an environment variable.
    Env(&'a str),
}

impl<'a> Raw<'a> {
    /// The text, for settings that are written as strings.
    pub(super) fn text(self) -> Result<&'a str, String> {
        match self {
            Self::Env(text) => Ok(text),
            Self::Toml(DeValue::String(text)) => Ok(text),
            Self::Toml(other) => Err(wanted("a string in quotes", other)),
        }
    }
}

/// A type that one value of the configuration can have. The reading is the check.
pub(crate) trait Setting: Sized {
    /// Reads the value, or says what it should have been.
    fn read(raw: Raw<'_>) -> Result<Self, String>;
}

/// Reads a setting from a flag, with the same check as in the file.
pub(crate) fn from_text<T: Setting>(text: &str) -> Result<T, String> {
    T::read(Raw::Env(text))
}

fn wanted(what: &str, found: &DeValue<'_>) -> String {
    let article = if found.type_str().starts_with(['a', 'i']) { "an" } else { "a" };
    format!("expected {what}, found {article} {}", found.type_str())
}

impl Setting for String {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        raw.text().map(str::to_owned)
    }
}

impl Setting for bool {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        match raw {
            Raw::Toml(DeValue::Boolean(flag)) => Ok(*flag),
            Raw::Env("true" | "1") => Ok(true),
            Raw::Env("false" | "0") => Ok(false),
            Raw::Toml(other) => Err(wanted("true or false", other)),
            Raw::Env(other) => Err(format!("expected true or false, found `{other}`")),
        }
    }
}

impl Setting for SocketAddr {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        let text = raw.text()?;
        text.parse().map_err(|_| {
            format!("`{text}` is not an address: write IP:PORT, such as 127.0.0.1:8080 or [::]:7946")
        })
    }
}

impl Setting for Vec<String> {
    /// In the environment: items separated by commas.
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        match raw {
            Raw::Env(text) => Ok(items(text).map(str::to_owned).collect()),
            Raw::Toml(DeValue::Array(array)) => array
                .iter()
                .map(|item| {
                    String::read(Raw::Toml(item.get_ref())).map_err(|why| format!("in the list: {why}"))
                })
                .collect(),
            Raw::Toml(other) => Err(wanted("a list of strings", other)),
        }
    }
}

impl Setting for Vec<AbsolutePath> {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        let paths = Vec::<String>::read(raw)?;
        paths.iter().map(|path| AbsolutePath::read(Raw::Env(path))).collect()
    }
}

impl Setting for BTreeMap<String, String> {
    /// In the environment: `KEY=VALUE` separated by commas.
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        match raw {
            Raw::Env(text) => items(text)
                .map(|item| item.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())))
                .collect::<Option<_>>()
                .ok_or_else(|| format!("`{text}` is not a list of KEY=VALUE separated by commas")),
            Raw::Toml(DeValue::Table(table)) => table
                .iter()
                .map(|(key, value)| {
                    let value = String::read(Raw::Toml(value.get_ref()));
                    let key = key.get_ref().to_string();
                    value.map_err(|why| format!("`{key}`: {why}")).map(|value| (key, value))
                })
                .collect(),
            Raw::Toml(other) => Err(wanted("a table of strings", other)),
        }
    }
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// A whole number within bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Whole<const MIN: u64, const MAX: u64>(pub(crate) u64);

impl<const MIN: u64, const MAX: u64> Setting for Whole<MIN, MAX> {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        let (text, number) = match raw {
            Raw::Env(text) => (text.to_owned(), text.parse().ok()),
            Raw::Toml(DeValue::Integer(number)) => {
                (number.to_string(), u64::from_str_radix(number.as_str(), number.radix()).ok())
            }
            Raw::Toml(other) => return Err(wanted("a whole number", other)),
        };
        match number {
            Some(number) if (MIN..=MAX).contains(&number) => Ok(Self(number)),
            _ => Err(format!("{text} is out of range: a whole number from {MIN} to {MAX}")),
        }
    }
}

/// A price: a finite number that isn't negative.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(transparent)]
pub(crate) struct Price(pub(crate) f64);

impl Setting for Price {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        let text = match raw {
            Raw::Env(text) => text.to_owned(),
            Raw::Toml(DeValue::Float(number)) => number.to_string(),
            Raw::Toml(DeValue::Integer(number)) => number.to_string(),
            Raw::Toml(other) => return Err(wanted("a number", other)),
        };
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() && number >= 0.0 => Ok(Self(number)),
            _ => Err(format!("{text} is not a price: a number, zero or more")),
        }
    }
}

/// A length of time, written with its unit: `500ms`, `1s`, `24h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Period(Duration);

impl Period {
    pub(super) const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The length of time itself.
    pub(crate) const fn duration(self) -> Duration {
        self.0
    }
}

impl Setting for Period {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        let text = raw.text()?;
        match humantime::parse_duration(text) {
            Ok(duration) if duration >= Duration::from_millis(1) => Ok(Self(duration)),
            _ => Err(format!(
                "`{text}` is not a length of time: write it with a unit, such as 500ms, 30s or 24h"
            )),
        }
    }
}

impl fmt::Display for Period {
    /// In the largest unit that needs no fraction, so that `24h` is shown as it was written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        let (unit_ms, unit) = [(3_600_000, "h"), (60_000, "m"), (1000, "s")]
            .into_iter()
            .find(|(unit_ms, _)| ms.is_multiple_of(*unit_ms))
            .unwrap_or((1, "ms"));
        write!(f, "{}{unit}", ms / unit_ms)
    }
}

/// A length of time within bounds, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct PeriodWithin<const MIN: u64, const MAX: u64>(Period);

impl<const MIN: u64, const MAX: u64> PeriodWithin<MIN, MAX> {
    pub(super) const fn from_secs(seconds: u64) -> Self {
        assert!(seconds >= MIN && seconds <= MAX, "a default is within its bounds");
        Self(Period::from_secs(seconds))
    }

    /// The length of time itself.
    pub(crate) const fn duration(self) -> Duration {
        self.0.duration()
    }
}

impl<const MIN: u64, const MAX: u64> Setting for PeriodWithin<MIN, MAX> {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        let (period, bounds) = (Period::read(raw)?, [MIN, MAX].map(Period::from_secs));
        if (bounds[0].0..=bounds[1].0).contains(&period.0) {
            return Ok(Self(period));
        }
        Err(format!("{period} is out of range: from {} to {}", bounds[0], bounds[1]))
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A path that means the same wherever the command was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct AbsolutePath(pub(super) PathBuf);

impl AbsolutePath {
    /// The path itself.
    pub(crate) fn as_path(&self) -> &Path {
        &self.0
    }
}

impl Setting for AbsolutePath {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        let text = raw.text()?;
        let path = PathBuf::from(text);
        if path.is_absolute() { Ok(Self(path)) } else { Err(format!("`{text}` is not an absolute path")) }
    }
}

/// A value that may be left out by writing an empty string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OrEmpty<T>(pub(crate) Option<T>);

impl<T> OrEmpty<T> {
    /// The value, if there is one.
    pub(crate) const fn get(&self) -> Option<&T> {
        self.0.as_ref()
    }
}

impl<T: Setting> Setting for OrEmpty<T> {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        if raw.text() == Ok("") { Ok(Self(None)) } else { T::read(raw).map(Some).map(Self) }
    }
}

impl<T: Serialize> Serialize for OrEmpty<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Some(value) => value.serialize(serializer),
            None => serializer.serialize_str(""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Setting>(text: &str) -> Result<T, String> {
        T::read(Raw::Env(text))
    }

    #[test]
    fn periods_are_shown_as_they_were_written() {
        for text in ["24h", "1s", "500ms", "90s", "1500ms"] {
            assert_eq!(read::<Period>(text).unwrap().to_string(), text);
        }
        for text in ["", "5", "0s", "-1s", "soon"] {
            assert!(read::<Period>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn periods_keep_their_bounds() {
        assert_eq!(read::<PeriodWithin<1, 60>>("1m"), Ok(PeriodWithin::from_secs(60)));
        for (text, told) in [("61s", "61s is out of range: from 1s to 1m"), ("999ms", "999ms is out")] {
            assert!(read::<PeriodWithin<1, 60>>(text).unwrap_err().starts_with(told), "{text}");
        }
        assert!(read::<PeriodWithin<1, 60>>("5").is_err());
    }

    #[test]
    fn numbers_keep_their_bounds() {
        assert_eq!(read::<Whole<1, 7>>("7"), Ok(Whole(7)));
        assert_eq!(read::<Whole<1, 7>>("8").unwrap_err(), "8 is out of range: a whole number from 1 to 7");
        for text in ["NaN", "-0.1", "inf", "x"] {
            assert!(read::<Price>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn lists_and_maps_come_from_the_environment_too() {
        assert_eq!(read::<Vec<String>>("a:1, b:2,").unwrap(), ["a:1", "b:2"]);
        let labels: BTreeMap<String, String> = read("zone=a,disk=ssd").unwrap();
        assert_eq!(labels["disk"], "ssd");
        assert!(read::<BTreeMap<String, String>>("zone").is_err());
    }

    #[test]
    fn an_empty_text_leaves_a_value_out() {
        assert_eq!(read::<OrEmpty<AbsolutePath>>(""), Ok(OrEmpty(None)));
        assert!(read::<OrEmpty<AbsolutePath>>("relative").is_err());
    }
}
