//! The resident shim's command line. Written by hand: it has one caller, and the shim's memory is counted in pages.
//! It refuses options it doesn't know.

use std::{ffi::OsString, path::PathBuf, str::FromStr, time::Duration};

use hypercore_model::{Attempt, WorkloadId};

/// How long an engine may take to start the first process, where the agent doesn't say: one that is being upgraded
/// starts shims of the next release.
const START_TIME_MAX: Duration = Duration::from_secs(60);

/// What the shim is told when it is started.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Arguments {
    /// Whose sandbox it holds.
    pub(super) id: WorkloadId,
    /// Which attempt at running the workload it is.
    pub(super) attempt: Attempt,
    /// The workload's own directory: the bundle, `log/`, `exit.json`.
    pub(super) directory: PathBuf,
    /// Where to listen.
    pub(super) socket: PathBuf,
    /// The engine's program.
    pub(super) engine: PathBuf,
    /// Where the engine keeps its containers.
    pub(super) engine_root: PathBuf,
    /// The file with the `oom_kill` counter of the workload's memory cgroup.
    pub(super) oom_events: Option<PathBuf>,
    /// Length at which a log file is followed by a new one, in bytes.
    pub(super) log_file_bytes_max: u64,
    /// How many log files are kept.
    pub(super) log_files_max: u32,
    /// How long the engine may take to start the first process.
    pub(super) start_time_max: Duration,
    /// The bundle gives the first process a terminal.
    pub(super) tty: bool,
    /// Keep the first process's standard input open.
    pub(super) stdin_open: bool,
}

/// Why the command line is wrong.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum UsageError {
    /// An option nobody knows, or one given twice.
    #[error("the option {0:?} is unknown or comes twice")]
    Option(OsString),
    /// An option that has to be there isn't, or its value isn't what it should be.
    #[error("the option {0} is missing, or its value is none")]
    Value(&'static str),
}

#[derive(Default)]
struct Options {
    id: Option<OsString>,
    attempt: Option<OsString>,
    directory: Option<OsString>,
    socket: Option<OsString>,
    engine: Option<OsString>,
    engine_root: Option<OsString>,
    oom_events: Option<OsString>,
    log_file_bytes_max: Option<OsString>,
    log_files_max: Option<OsString>,
    start_time_max_ms: Option<OsString>,
    tty: bool,
    stdin_open: bool,
}

impl Arguments {
    /// Reads what comes after the program's name.
    pub(super) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Self, UsageError> {
        let options = Options::collect(arguments)?;
        Ok(Self {
            id: value("--id", options.id)?,
            attempt: Attempt::new(value("--attempt", options.attempt)?),
            directory: path("--directory", options.directory)?,
            socket: path("--socket", options.socket)?,
            engine: path("--engine", options.engine)?,
            engine_root: path("--engine-root", options.engine_root)?,
            oom_events: options.oom_events.map(|text| path("--oom-events", Some(text))).transpose()?,
            log_file_bytes_max: value("--log-file-bytes-max", options.log_file_bytes_max)?,
            log_files_max: value("--log-files-max", options.log_files_max)?,
            start_time_max: start_time_max(options.start_time_max_ms)?,
            tty: options.tty,
            stdin_open: options.stdin_open,
        })
    }
}

impl Options {
    fn collect(mut arguments: impl Iterator<Item = OsString>) -> Result<Self, UsageError> {
        let mut options = Self::default();
        while let Some(name) = arguments.next() {
            let slot = match name.to_str() {
                Some("--id") => &mut options.id,
                Some("--attempt") => &mut options.attempt,
                Some("--directory") => &mut options.directory,
                Some("--socket") => &mut options.socket,
                Some("--engine") => &mut options.engine,
                Some("--engine-root") => &mut options.engine_root,
                Some("--oom-events") => &mut options.oom_events,
                Some("--log-file-bytes-max") => &mut options.log_file_bytes_max,
                Some("--log-files-max") => &mut options.log_files_max,
                Some("--start-time-max-ms") => &mut options.start_time_max_ms,
                Some("--tty") => {
                    options.tty = true;
                    continue;
                }
                Some("--stdin-open") => {
                    options.stdin_open = true;
                    continue;
                }
                _ => return Err(UsageError::Option(name)),
            };
            if slot.is_some() {
                return Err(UsageError::Option(name));
            }
            *slot = arguments.next();
        }
        Ok(options)
    }
}

/// An absolute path: the shim changes to `/` as soon as it begins.
fn path(name: &'static str, text: Option<OsString>) -> Result<PathBuf, UsageError> {
    text.map(PathBuf::from).filter(|path| path.is_absolute()).ok_or(UsageError::Value(name))
}

fn start_time_max(text: Option<OsString>) -> Result<Duration, UsageError> {
    let Some(text) = text else { return Ok(START_TIME_MAX) };
    value("--start-time-max-ms", Some(text)).map(Duration::from_millis)
}

fn value<T: FromStr>(name: &'static str, text: Option<OsString>) -> Result<T, UsageError> {
    let text = text.as_ref().and_then(|text| text.to_str());
    text.and_then(|text| text.parse().ok()).ok_or(UsageError::Value(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "--id 1b4e28ba-2fa1-41d2-883f-0016d3cca427 --attempt 3 --directory /d --socket /s.sock \
        --engine /e --engine-root /r --log-file-bytes-max 100 --log-files-max 2";

    fn parse(line: &str) -> Result<Arguments, UsageError> {
        Arguments::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn a_whole_line_is_read() {
        let plain = parse(LINE).unwrap();
        assert_eq!((plain.attempt, plain.tty, plain.oom_events), (Attempt::new(3), false, None));
        assert_eq!(plain.start_time_max, START_TIME_MAX);
        let full =
            parse(&format!("{LINE} --tty --stdin-open --oom-events /o --start-time-max-ms 9000")).unwrap();
        assert_eq!(full.start_time_max, Duration::from_secs(9));
        assert_eq!((full.tty, full.stdin_open, full.oom_events), (true, true, Some("/o".into())));
    }

    #[test]
    fn wrong_lines_are_refused() {
        for (line, error) in [
            ("", UsageError::Value("--id")),
            (&LINE.replace("--directory /d", "--directory d"), UsageError::Value("--directory")),
            (&LINE.replace("--attempt 3", "--attempt x"), UsageError::Value("--attempt")),
            (&format!("{LINE} --start-time-max-ms 60s"), UsageError::Value("--start-time-max-ms")),
            (&format!("{LINE} --attempt 4"), UsageError::Option("--attempt".into())),
            (&format!("{LINE} --force"), UsageError::Option("--force".into())),
            (&format!("{LINE} --oom-events"), UsageError::Option("--oom-events".into())),
        ] {
            if line.ends_with("--oom-events") {
                assert!(parse(line).is_ok_and(|arguments| arguments.oom_events.is_none()));
            } else {
                assert_eq!(parse(line), Err(error), "{line}");
            }
        }
    }
}
