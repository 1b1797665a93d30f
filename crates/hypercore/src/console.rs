//! Where the program speaks: data on stdout, talk on stderr. Nothing else in this program writes to either.

use std::{
    env,
    io::{self, IsTerminal as _, Write as _},
};

use hypercore_api::ApiError;
use serde::Serialize;

use crate::{
    cli::{Format, GlobalArgs},
    exit::Exit,
    failure::{Failure, Outcome},
    table::{Table, printable},
};

const RED: &str = "\x1b[1;31m";
const YELLOW: &str = "\x1b[1;33m";
const CYAN: &str = "\x1b[1;36m";
const RESET: &str = "\x1b[0m";

/// An error as programs read it, on one line. The names and their order are a contract.
pub(crate) fn told_to_programs(error: &ApiError) -> String {
    #[derive(Serialize)]
    struct Told<'a> {
        error: &'a str,
        message: &'a str,
        code: &'a str,
        hint: Option<&'a str>,
    }
    let kind = error.kind.as_str();
    let told = Told { error: kind, message: &error.message, code: &error.code, hint: error.hint.as_deref() };
    serde_json::to_string(&told).unwrap_or_else(|_| kind.to_owned())
}

/// Lines that may quote what somebody else wrote, safe to print on a terminal.
fn printable_lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

/// How this run of the program speaks.
#[derive(Debug, Clone)]
pub(crate) struct Console {
    format: Format,
    is_quiet: bool,
    is_verbose: bool,
    has_colour: bool,
}

impl Console {
    /// As the global flags and the environment say.
    pub(crate) fn new(args: &GlobalArgs) -> Self {
        // https://no-color.org: present and not empty.
        let is_forbidden = args.no_color || env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            format: args.format(),
            is_quiet: args.quiet,
            is_verbose: args.verbose > 0,
            has_colour: io::stderr().is_terminal() && !is_forbidden,
        }
    }

    /// Whether only ids, names and the like are wanted.
    pub(crate) const fn is_quiet(&self) -> bool {
        self.is_quiet
    }

    /// Whether people read the output, not programs.
    pub(crate) fn is_for_people(&self) -> bool {
        self.format == Format::Table
    }

    /// Whether bars may be drawn: on a terminal, for people who didn't ask for silence.
    pub(crate) fn may_draw(&self) -> bool {
        !self.is_quiet && io::stderr().is_terminal()
    }

    /// Prints one line of data.
    pub(crate) fn line(&self, line: &str) -> io::Result<()> {
        writeln!(io::stdout().lock(), "{line}")
    }

    /// Prints data in the format that was asked for; `table` draws it for people.
    pub(crate) fn data<T: Serialize>(&self, data: &T, table: impl FnOnce(&T) -> Table) -> Outcome {
        match self.format {
            Format::Table => {
                let mut table = table(data);
                if let Some(size) = terminal_size::terminal_size_of(io::stdout()) {
                    table.fit(size.0.0.into());
                }
                self.text(&table.to_string())
            }
            Format::Json | Format::Yaml => self.structured(data),
        }
    }

    /// Prints data for programs: as YAML if that was asked for, else as JSON.
    pub(crate) fn structured<T: Serialize>(&self, data: &T) -> Outcome {
        let text = match self.format {
            Format::Yaml => serde_saphyr::to_string(data).map_err(io::Error::other)?,
            Format::Table | Format::Json => serde_json::to_string_pretty(data).map_err(io::Error::other)?,
        };
        self.text(&text)
    }

    /// Prints text as it is, ended by a line break.
    pub(crate) fn text(&self, text: &str) -> Outcome {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        if !text.is_empty() && !text.ends_with('\n') {
            stdout.write_all(b"\n")?;
        }
        stdout.flush()?;
        Ok(Exit::Ok)
    }

    /// Says something to people, unless they asked for silence.
    pub(crate) fn say(&self, line: &str) {
        if !self.is_quiet {
            self.stderr(line);
        }
    }

    /// Says what happens to people who asked to hear more.
    pub(crate) fn detail(&self, line: &str) {
        if self.is_verbose {
            self.stderr(line);
        }
    }

    /// Says something that should be heard although nothing failed.
    pub(crate) fn warn(&self, line: &str) {
        self.stderr(&format!("{} {}", self.coloured(YELLOW, "warning:"), printable_lines(line)));
    }

    /// Tells a failure and answers the exit code that goes with it.
    pub(crate) fn report(&self, failure: &Failure) -> Exit {
        let error = &failure.error;
        if failure.is_silent {
            return failure.exit;
        }
        if self.format == Format::Json {
            self.stderr(&told_to_programs(error));
            return failure.exit;
        }
        self.stderr(&format!("{} {}", self.coloured(RED, "error:"), printable_lines(&error.message)));
        if let Some(hint) = &error.hint {
            self.stderr(&format!("{} {}", self.coloured(CYAN, "hint:"), printable_lines(hint)));
        }
        failure.exit
    }

    fn coloured(&self, colour: &str, text: &str) -> String {
        if self.has_colour { format!("{colour}{text}{RESET}") } else { text.to_owned() }
    }

    /// A stderr that nobody reads is no reason to fail.
    fn stderr(&self, line: &str) {
        let _ = writeln!(io::stderr().lock(), "{line}");
    }
}
