//! The engine's command line. Written by hand: it has one caller, and every microsecond here is part of each start.
//! It refuses ids that are not file names, relative paths, and options it doesn't know.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use super::Container;

/// What the engine is told to do.
#[derive(Debug)]
pub(crate) struct Arguments {
    /// Which container.
    pub(crate) container: Container,
    /// What to do with it.
    pub(crate) action: Action,
}

/// `create`, `exec` or `delete`.
#[derive(Debug)]
pub(crate) enum Action {
    /// Make the container and start its first process.
    Create {
        /// Directory with `config.json` and the rootfs.
        bundle: PathBuf,
        /// Number of the descriptor that takes the report.
        report_fd: i32,
        /// Unix socket that takes the master of the terminal.
        console_socket: Option<PathBuf>,
    },
    /// Start a process in the container.
    Exec {
        /// File with a `ProcessRequest`.
        process: PathBuf,
        /// Number of the descriptor that takes the report.
        report_fd: i32,
        /// Unix socket that takes the master of the terminal.
        console_socket: Option<PathBuf>,
    },
    /// Kill what is left of the container and remove it.
    Delete,
}

/// Why the command line is wrong.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UsageError {
    /// Neither create, exec nor delete.
    #[error("the first argument must be create, exec or delete")]
    Action,
    /// An option nobody knows, or one given twice.
    #[error("the option {0:?} is unknown or comes twice")]
    Option(OsString),
    /// An option that has to be there isn't.
    #[error("the option {0} is missing, or its value is")]
    Missing(&'static str),
    /// An id that is not safe as a file name.
    #[error("the id {0:?} is not a file name of letters, digits, `_`, `-` and `.`")]
    Id(OsString),
    /// A path that is not absolute.
    #[error("{0} must be an absolute path")]
    Relative(&'static str),
    /// Not the number of a descriptor beyond the standard ones.
    #[error("--report-fd must be a number from 3 on")]
    ReportFd,
}

/// The options as they came, each at most once.
#[derive(Default)]
struct Options {
    root: Option<OsString>,
    id: Option<OsString>,
    bundle: Option<OsString>,
    process: Option<OsString>,
    report_fd: Option<OsString>,
    console_socket: Option<OsString>,
}

impl Arguments {
    /// Reads what comes after the program's name.
    pub(crate) fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Self, UsageError> {
        let action = arguments.next().ok_or(UsageError::Action)?;
        let options = Options::collect(arguments)?;
        let container = Container { root: path("--root", options.root)?, id: id(options.id)? };
        let report_fd = || report_fd(options.report_fd.as_deref());
        let console_socket =
            || options.console_socket.clone().map(|text| path("--console-socket", Some(text)));
        let action = match action.to_str() {
            Some("create") => Action::Create {
                bundle: path("--bundle", options.bundle)?,
                report_fd: report_fd()?,
                console_socket: console_socket().transpose()?,
            },
            Some("exec") => Action::Exec {
                process: path("--process", options.process)?,
                report_fd: report_fd()?,
                console_socket: console_socket().transpose()?,
            },
            Some("delete") => Action::Delete,
            _ => return Err(UsageError::Action),
        };
        Ok(Self { container, action })
    }
}

impl Options {
    fn collect(mut arguments: impl Iterator<Item = OsString>) -> Result<Self, UsageError> {
        let mut options = Self::default();
        while let Some(name) = arguments.next() {
            let slot = match name.to_str() {
                Some("--root") => &mut options.root,
                Some("--id") => &mut options.id,
                Some("--bundle") => &mut options.bundle,
                Some("--process") => &mut options.process,
                Some("--report-fd") => &mut options.report_fd,
                Some("--console-socket") => &mut options.console_socket,
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

fn path(name: &'static str, text: Option<OsString>) -> Result<PathBuf, UsageError> {
    let path = PathBuf::from(text.ok_or(UsageError::Missing(name))?);
    if path.is_absolute() { Ok(path) } else { Err(UsageError::Relative(name)) }
}

fn id(text: Option<OsString>) -> Result<String, UsageError> {
    let text = text.ok_or(UsageError::Missing("--id"))?;
    let is_name = |id: &str| {
        let is_word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        !id.is_empty() && id.bytes().all(is_word) && Path::new(id).file_name() == Some(OsStr::new(id))
    };
    match text.to_str() {
        Some(id) if is_name(id) => Ok(id.to_owned()),
        _ => Err(UsageError::Id(text)),
    }
}

fn report_fd(text: Option<&OsStr>) -> Result<i32, UsageError> {
    let text = text.ok_or(UsageError::Missing("--report-fd"))?;
    let number = text.to_str().and_then(|text| text.parse().ok());
    number.filter(|&number| number > 2).ok_or(UsageError::ReportFd)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, UsageError> {
        Arguments::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn the_three_actions_are_read() {
        let create =
            parse("create --root /r --id a-1 --bundle /b --report-fd 3 --console-socket /c").unwrap();
        assert_eq!(create.container.directory(), Path::new("/r/a-1"));
        assert!(matches!(create.action, Action::Create { report_fd: 3, console_socket: Some(_), .. }));
        let exec = parse("exec --process /p --report-fd 7 --id a --root /r").unwrap();
        assert!(matches!(exec.action, Action::Exec { report_fd: 7, console_socket: None, .. }));
        assert!(matches!(parse("delete --root /r --id a").unwrap().action, Action::Delete));
    }

    #[test]
    fn wrong_lines_are_refused() {
        for (line, error) in [
            ("", UsageError::Action),
            ("start --root /r --id a", UsageError::Action),
            ("delete --root /r", UsageError::Missing("--id")),
            ("delete --root /r --id", UsageError::Missing("--id")),
            ("delete --root r --id a", UsageError::Relative("--root")),
            ("delete --root /r --id ..", UsageError::Id("..".into())),
            ("delete --root /r --id a/b", UsageError::Id("a/b".into())),
            ("delete --root /r --id a --id b", UsageError::Option("--id".into())),
            ("delete --force --root /r --id a", UsageError::Option("--force".into())),
            ("exec --root /r --id a --process /p --report-fd 1", UsageError::ReportFd),
        ] {
            assert_eq!(parse(line).unwrap_err(), error, "{line}");
        }
    }
}
