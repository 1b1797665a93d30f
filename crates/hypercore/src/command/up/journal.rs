//! What the agent says while it runs: to stderr, where systemd and people look, as text or as JSON lines.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::{EnvFilter, fmt};

use crate::{
    cli::GlobalArgs,
    config::{LogFormat, LogLevel, LoggingTable},
    failure::Failure,
};

/// Begins to write. `-v` and `-q` say more or less than the configuration.
pub(super) fn begin(table: &LoggingTable, global: &GlobalArgs) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter(table.level, global)).map_err(io::Error::other)?;
    let journal = fmt().with_env_filter(filter).with_writer(io::stderr);
    let begun = match table.format {
        LogFormat::Json => journal.json().try_init(),
        LogFormat::Text => journal.with_ansi(io::stderr().is_terminal() && !global.no_color).try_init(),
    };
    Ok(begun.map_err(io::Error::other)?)
}

/// Our own crates at the level that was asked for, the libraries beneath only when something is wrong.
fn filter(level: LogLevel, global: &GlobalArgs) -> String {
    match (global.quiet, global.verbose) {
        (true, _) => "error".to_owned(),
        (false, 0) => format!("warn,hypercore={}", level.as_str()),
        (false, 1) => "warn,hypercore=debug".to_owned(),
        (false, _) => "debug,hypercore=trace".to_owned(),
    }
}
