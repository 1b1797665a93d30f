//! A command line that could not be read, told in the same form as every other error: `error:`, then `hint:`.

use std::{
    ffi::OsString,
    io::{self, Write as _},
};

use clap::error::ErrorKind;
use hypercore_api::ApiError;

use crate::{console::told_to_programs, exit::Exit, table::printable};

/// Why parsing ended without a command: a mistake, or help that was asked for.
#[derive(Debug)]
pub(crate) struct UsageError {
    error: clap::Error,
    is_json: bool,
    /// The command that was meant, as far as its words were understood.
    command: Box<clap::Command>,
}

impl UsageError {
    pub(super) fn new(error: clap::Error, arguments: &[OsString]) -> Self {
        // The flags could not be parsed, so this looks for the words themselves.
        let is_pair =
            |pair: &[OsString]| matches!(pair[0].to_str(), Some("-o" | "--output")) && pair[1] == "json";
        let is_single =
            |word: &OsString| matches!(word.to_str(), Some("--json" | "-ojson" | "--output=json"));
        let is_json = arguments.iter().any(is_single) || arguments.windows(2).any(is_pair);
        Self { error, is_json, command: Box::new(meant(arguments)) }
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
                let told = Told::of(&self.error, &self.command);
                let text = if self.is_json { told.to_json() } else { told.to_text() };
                let _ = io::stderr().lock().write_all(text.as_bytes());
                Exit::Usage
            }
        }
    }
}

/// The command whose name stands in `arguments`, as deep as they lead.
fn meant(arguments: &[OsString]) -> clap::Command {
    let mut root = super::definition();
    root.build();
    let mut command = &root;
    for word in arguments.iter().skip(1) {
        command = command.find_subcommand(word).unwrap_or(command);
    }
    command.clone()
}

/// The parts of clap's message: paragraphs that begin with `error:` and `tip:`. Its usage is our own: clap would list
/// the flags that came from the environment as if they had to be typed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    message: String,
    hint: String,
}

impl Told {
    fn of(error: &clap::Error, command: &clap::Command) -> Self {
        let mut told = Self::default();
        for paragraph in error.render().to_string().split("\n\n") {
            let lines: Vec<_> = paragraph.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
            let text = lines.join(" ");
            if let Some(message) = text.strip_prefix("error: ") {
                told.message = message.to_owned();
            } else if let Some(tip) = text.strip_prefix("tip: ").filter(|tip| tip.contains("similar")) {
                told.hint = tip.to_owned();
            }
        }
        if told.hint.is_empty() {
            told.hint = hint(error.kind(), command);
        }
        told
    }

    fn to_text(&self) -> String {
        format!("error: {}\nhint: {}\n", printable(&self.message), printable(&self.hint))
    }

    fn to_json(&self) -> String {
        let error = ApiError::new(hypercore_api::ErrorKind::Usage, "usage", self.message.as_str());
        format!("{}\n", told_to_programs(&error.with_hint(self.hint.as_str())))
    }
}

/// Where to go on: the form of the command, or its help when one value was wrong.
fn hint(kind: ErrorKind, command: &clap::Command) -> String {
    if kind == ErrorKind::ValueValidation {
        return format!("see `{} --help`", command.get_bin_name().unwrap_or("hypercore"));
    }
    let usage = command.clone().render_usage().to_string();
    usage.replacen("Usage:", "usage:", 1).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(arguments: &[&str]) -> Told {
        let error = super::super::definition().try_get_matches_from(arguments).unwrap_err();
        Told::of(&error, &meant(&arguments.iter().map(OsString::from).collect::<Vec<_>>()))
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
        assert_eq!(told.hint, "usage: hypercore inspect [OPTIONS] <WORKLOAD>...");
    }

    #[test]
    fn a_flag_that_is_like_no_other_comes_with_the_usage() {
        let told = told(&["hypercore", "image", "rm", "--zzz", "x"]);
        assert_eq!(told.message, "unexpected argument '--zzz' found");
        assert_eq!(told.hint, "usage: hypercore image rm [OPTIONS] <IMAGE>...");
    }

    #[test]
    fn a_negative_number_is_a_value_out_of_range_and_no_flag() {
        for arguments in [["run", "--cpu", "-1", "web"], ["logs", "--tail", "-1", "web"]] {
            let told = told(&[&["hypercore"], &arguments[..]].concat());
            assert!(told.message.starts_with("invalid value '-1'"), "{told:?}");
            assert_eq!(told.hint, format!("see `hypercore {} --help`", arguments[0]));
        }
    }

    #[test]
    fn control_characters_are_shown_not_obeyed() {
        let told = told(&["hypercore", "run", "--name", "a\rb", "web"]);
        assert!(!told.to_text().contains('\r') && told.to_text().contains("\\r"), "{told:?}");
    }

    #[test]
    fn a_wrong_value_says_why() {
        let told = told(&["hypercore", "run", "--cpu", "many", "web"]);
        assert!(told.message.contains("not a number of CPUs"), "{told:?}");
    }
}
