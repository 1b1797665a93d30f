//! What the agent says while it runs: to stderr, where systemd and people look, as text or as JSON lines, and as traces
//! to a collector when one is configured. It refuses to start when that can't be set up, and to stop because a
//! collector is gone.

use std::io::{self, IsTerminal as _};

use hypercore_api::ErrorKind;
use tracing_subscriber::{
    EnvFilter, Layer as _, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use super::traces::{self, Traces};
use crate::{
    cli::GlobalArgs,
    config::{LogFormat, LogLevel, LoggingTable},
    failure::Failure,
};

/// What has begun, to be ended before the program does.
pub(super) struct Journal {
    traces: Option<Traces>,
}

/// Begins to write. `-v` and `-q` say more or less than the configuration.
pub(super) fn begin(table: &LoggingTable, global: &GlobalArgs) -> Result<Journal, Failure> {
    let lines = EnvFilter::try_new(filter(table.level, global)).map_err(io::Error::other)?;
    let plain = fmt::layer().with_writer(io::stderr);
    let written = match table.format {
        LogFormat::Json => plain.json().with_filter(lines).boxed(),
        LogFormat::Text => {
            plain.with_ansi(io::stderr().is_terminal() && !global.no_color).with_filter(lines).boxed()
        }
    };
    let traces = table.otlp_endpoint.get().map(|endpoint| traces::begin(endpoint.as_str())).transpose();
    let traces = traces.map_err(|error| {
        let failure =
            Failure::new(ErrorKind::Usage, "otlp_invalid", format!("traces can't be sent: {error}"));
        failure.with_hint("see [logging] otlp_endpoint, such as \"http://127.0.0.1:4318\"")
    })?;
    let exported = traces.as_ref().map(Traces::layer);
    tracing_subscriber::registry().with(written).with(exported).try_init().map_err(io::Error::other)?;
    Ok(Journal { traces })
}

impl Journal {
    /// Sends what is left to the collector.
    pub(super) fn end(self) {
        if let Some(traces) = self.traces {
            traces.end();
        }
    }
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
