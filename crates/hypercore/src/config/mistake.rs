//! What is wrong with a configuration, where, and what was probably meant.

use std::{fmt, io, path::PathBuf};

/// How alike two words must be (Jaro-Winkler, 0 to 1) for one to be offered for the other. Below this the offers
/// in our own tests stop making sense.
const LIKENESS_MIN: f64 = 0.8;

/// Why no configuration could be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file that was asked for can't be read.
    #[error("the configuration file {} can't be read: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There are mistakes in the file or in the environment: all of them.
    #[error("{}", list(.0))]
    Mistakes(Vec<Mistake>),
}

/// Where a mistake is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a file; line and column count from 1, the column in characters.
    File {
        /// Which file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// The column.
        column: usize,
    },
    /// In an environment variable.
    Variable(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Variable(name) => f.write_str(name),
        }
    }
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// Where it is.
    pub(crate) place: Place,
    /// What it is, with what was probably meant.
    pub(crate) message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

fn list(mistakes: &[Mistake]) -> String {
    let lines = mistakes.iter().map(|mistake| format!("\n  {mistake}")).collect::<String>();
    match mistakes.len() {
        1 => format!("the configuration has a mistake:{lines}"),
        count => format!("the configuration has {count} mistakes:{lines}"),
    }
}

/// The candidate most like `word`, if any is like it at all.
pub(super) fn closest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_mistakes_find_their_word() {
        let words = ["data_directory", "runtime_directory", "level", "fsync"];
        for (typed, meant) in [
            ("data_dir", "data_directory"),
            ("levl", "level"),
            ("fsnyc", "fsync"),
            ("datadirectory", "data_directory"),
        ] {
            assert_eq!(closest(typed, words.into_iter()), Some(meant), "{typed}");
        }
        assert_eq!(closest("colour", words.into_iter()), None);
    }
}
