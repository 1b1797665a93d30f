//! The last steps inside the container: find the program, put the seccomp filter on, become the program.
//! `libcontainer` runs them for the first process as for every later one, so both get the same filter.
//! It refuses to start anything without the filter.

use std::{
    ffi::CString,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use libcontainer::{
    oci_spec::runtime::{Box as ConsoleSize, Process, Spec},
    workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError},
};
use nix::unistd::execve;
use seccompiler::BpfProgram;

use super::{engine_failure, init, program, signals, verdict};
use crate::{
    report::{Failure, FailureCode, Report},
    terminal::TerminalSize,
};

/// The executor given to `libcontainer`; clones share everything.
#[derive(Debug, Clone)]
pub(super) struct Launcher {
    filter: Arc<BpfProgram>,
    verdict: Arc<verdict::Sender>,
    program: Arc<OnceLock<PathBuf>>,
    /// The program is to become a child of this process, which stays as init.
    stays: bool,
}

impl Launcher {
    /// A launcher that puts `filter` on and tells `verdict` what goes wrong.
    pub(super) fn new(filter: BpfProgram, verdict: verdict::Sender, stays: bool) -> Self {
        Self { filter: Arc::new(filter), verdict: Arc::new(verdict), program: Arc::default(), stays }
    }

    /// Tells the engine something.
    pub(super) fn tell(&self, report: Report) {
        self.verdict.send(report);
    }

    /// Tells the engine, and gives the text for `libcontainer`, which ends the process then.
    fn fail(&self, failure: Failure) -> String {
        let message = failure.message.clone();
        self.tell(Report::Error(failure));
        message
    }

    /// Returns only if it failed.
    fn launch(&self, process: &Process, file: &Path) -> Failure {
        if let Some(size) = process.console_size().filter(|_| process.terminal().unwrap_or(false)) {
            // Before the program can ask. A terminal of the wrong size is better than none.
            let _ = terminal_size(&size).apply(std::io::stdin());
        }
        if let Err(error) = seccompiler::apply_filter(&self.filter) {
            return engine_failure("the seccomp filter can't be installed", &error);
        }
        if self.stays
            && let Err(errno) = init::split()
        {
            return engine_failure("there is no process for the program", &errno);
        }
        let argv = process.args().as_deref().unwrap_or_default();
        let env = process.env().as_deref().unwrap_or_default();
        signals::reset();
        // Not execvp, which would give a text without `#!` to a shell.
        match execve(&c_string(file.as_os_str().as_bytes()), &c_strings(argv), &c_strings(env)) {
            Err(errno) => program::refused(file, errno),
            Ok(never) => match never {},
        }
    }
}

impl Executor for Launcher {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        let found = process_of(spec).and_then(|process| {
            let name = process.args().as_deref().unwrap_or_default().first().map_or("", String::as_str);
            program::find(name, process.env().as_deref().unwrap_or_default())
        });
        match found {
            Ok(file) => {
                self.program.get_or_init(|| file);
                Ok(())
            }
            Err(failure) => Err(ExecutorValidationError::ArgValidationError(self.fail(failure))),
        }
    }

    /// The environment is given to execve: this process's own is never changed.
    fn setup_envs(&self, _: std::collections::HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let failure = match (process_of(spec), self.program.get()) {
            (Ok(process), Some(file)) => self.launch(process, file),
            (Err(failure), _) => failure,
            (Ok(_), None) => {
                Failure { code: FailureCode::Engine, message: "the program was never looked up".into() }
            }
        };
        Err(ExecutorError::Other(self.fail(failure)))
    }
}

fn c_strings(texts: &[String]) -> Vec<CString> {
    texts.iter().map(|text| c_string(text.as_bytes())).collect()
}

/// The text up to its first NUL, which specs are checked not to have.
fn c_string(bytes: &[u8]) -> CString {
    let text: Vec<u8> = bytes.iter().copied().take_while(|&byte| byte != 0).collect();
    CString::new(text).unwrap_or_default()
}

fn terminal_size(size: &ConsoleSize) -> TerminalSize {
    let limited = |characters: u64| u16::try_from(characters).unwrap_or(u16::MAX);
    TerminalSize { rows: limited(size.height()), columns: limited(size.width()) }
}

fn process_of(spec: &Spec) -> Result<&Process, Failure> {
    let missing = || Failure { code: FailureCode::Engine, message: "config.json has no process".into() };
    spec.process().as_ref().ok_or_else(missing)
}
