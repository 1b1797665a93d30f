//! Runs the program with an environment of its own, and never waits for it longer than a deadline.

use std::{
    io::{Read, Write as _},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use hypercore_fixtures::wait_until;

/// Nothing in these tests takes long; this only bounds a hang.
const TIME_MAX: Duration = Duration::from_secs(60);

/// How a run of the program ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// Checks the exit code, and shows everything if it is another.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// What was printed, as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// The program, cut off from this machine's own settings.
pub(crate) fn hypercore() -> Command {
    isolated(Command::new(env!("CARGO_BIN_EXE_hypercore")))
}

/// Takes away everything of our environment that the program reads.
pub(crate) fn isolated(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HYPERCORE_") {
            command.env_remove(&name);
        }
    }
    command.env("HYPERCORE_CONFIG", "/dev/null").env_remove("COLUMNS").env_remove("NO_COLOR");
    command
}

/// Runs a command to its end with this input.
pub(crate) fn finish(command: &mut Command, input: &[u8]) -> Ended {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A program that ends without reading its input is no mistake.
    thread::spawn(move || drop(stdin.write_all(&input)));
    collect(child)
}

/// Waits for a child that has begun.
pub(crate) fn collect(mut child: Child) -> Ended {
    let stdout = read_in_thread(child.stdout.take().unwrap());
    let stderr = read_in_thread(child.stderr.take().unwrap());
    let code = wait(&mut child);
    Ended { code, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
}

/// The exit code, within the deadline.
pub(crate) fn wait(child: &mut Child) -> Option<i32> {
    let ended = until(|| child.try_wait().unwrap());
    let Some(status) = ended else {
        let _ = child.kill();
        panic!("the program did not end within {TIME_MAX:?}");
    };
    status.code()
}

/// Looks again and again until there is an answer, or the deadline has passed.
pub(crate) fn until<T>(look: impl FnMut() -> Option<T>) -> Option<T> {
    wait_until(TIME_MAX, look)
}

fn read_in_thread(mut source: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = source.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
