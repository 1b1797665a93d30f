//! A command line that could not be read, told in the same form as every other error: `error:`, then `hint:`.

use std::{
    ffi::OsString,
    io::{self, Write as _},
};

use clap::error::ErrorKind;
use hypercore_api::ApiError;

use crate::{console::told_to_programs, exit::Exit};

/// Why parsing ended without a command: a mistake, or help that was asked for.
#[derive(Debug)]
pub(crate) struct UsageError {
    error: clap::Error,
    is_json: bool,
}

impl UsageError {
    pub(super) fn new(error: clap::Error, arguments: &[OsString]) -> Self {
        // The flags could not be parsed, so this looks for the words themselves.
        let is_pair =
            |pair: &[OsString]| matches!(pair[0].to_str(), Some("-o" | "--output")) && pair[1] == "json";
        let is_single =
            |word: &OsString| matches!(word.to_str(), Some("--json" | "-ojson" | "--output=json"));
        let is_json = arguments.iter().any(is_single) || arguments.windows(2).any(is_pair);
        Self { error, is_json }
    }

    /// Tells it and answers the exit code that goes with it.
    pub(crate) fn report(&self) -> Exit {
        match self.error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                // Help that nobody reads is no reason to fail.
                let _ = self.error.print();
                Exit::Ok
            }
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                let _ = self.error.print();
                Exit::Usage
            }
            _ => {
                let told = Told::of(&self.error.render().to_string());
                let text = if self.is_json { told.to_json() } else { told.to_text() };
                let _ = io::stderr().lock().write_all(text.as_bytes());
                Exit::Usage
            }
        }
    }
}

/// The parts of clap's message: paragraphs that begin with `error:`, `tip:` and `Usage:`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    message: String,
    hint: String,
}

impl Told {
    fn of(rendered: &str) -> Self {
        let mut told = Self::default();
        let mut usage = None;
        for paragraph in rendered.split("\n\n") {
            let lines: Vec<_> = paragraph.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
            let text = lines.join(" ");
            if let Some(message) = text.strip_prefix("error: ") {
                told.message = message.to_owned();
            } else if let Some(tip) = text.strip_prefix("tip: ") {
                told.hint = tip.to_owned();
            } else if let Some(line) = text.strip_prefix("Usage: ") {
                usage = Some(line.to_owned());
            }
        }
        if told.hint.is_empty() {
            told.hint =
                usage.map_or_else(|| "see `hypercore --help`".to_owned(), |usage| format!("usage: {usage}"));
        }
        told
    }

    fn to_text(&self) -> String {
        format!("error: {}\nhint: {}\n", self.message, self.hint)
    }

    fn to_json(&self) -> String {
        let error = ApiError::new(hypercore_api::ErrorKind::Usage, "usage", self.message.as_str());
        format!("{}\n", told_to_programs(&error.with_hint(self.hint.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(arguments: &[&str]) -> Told {
        let error = super::super::definition().try_get_matches_from(arguments).unwrap_err();
        Told::of(&error.render().to_string())
    }

    #[test]
    fn a_mistake_comes_with_what_was_meant() {
        let told = told(&["hypercore", "rm", "--forse", "x"]);
        assert_eq!(told.message, "unexpected argument '--forse' found");
        assert!(told.hint.contains("--force"), "{told:?}");
    }

    #[test]
    fn a_missing_argument_comes_with_the_usage() {
        let told = told(&["hypercore", "inspect"]);
        assert!(told.message.contains("<WORKLOAD>"), "{told:?}");
        assert!(told.hint.starts_with("usage: hypercore inspect"), "{told:?}");
    }

    #[test]
    fn a_wrong_value_says_why() {
        let told = told(&["hypercore", "run", "--cpu", "many", "web"]);
        assert!(told.message.contains("not a number of CPUs"), "{told:?}");
    }
}
