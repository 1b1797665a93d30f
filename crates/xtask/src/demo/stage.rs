//! Where the demo is shown: each command as one would type it, what it answered, and what that proves.
//!
//! It refuses to go on after Ctrl-C: the next command isn't run, and what was started is taken down.

use std::io::{BufRead, BufReader, IsTerminal};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, ensure};

use crate::{interrupt, shell};

/// The terminal.
#[derive(Debug)]
pub(super) struct Stage {
    colour: bool,
}

impl Stage {
    /// Standard output, in colour when somebody looks at it.
    pub(super) fn open() -> Self {
        Self { colour: std::io::stdout().is_terminal() }
    }

    /// A line about what comes next.
    pub(super) fn say(&self, text: &str) {
        println!("\n{}", self.paint("1", &format!("# {text}")));
    }

    /// A line about what was just seen.
    pub(super) fn seen(&self, text: &str) {
        println!("{}", self.paint("32", &format!("  ✓ {text}")));
    }

    /// A command that isn't run, or that was started in the background.
    pub(super) fn typed(&self, command: &str) {
        println!("{}", self.paint("36", &format!("$ {command}")));
    }

    /// Shows the command, runs it, shows what it answered and returns its stdout.
    ///
    /// # Errors
    /// When it fails, or the user pressed Ctrl-C.
    pub(super) fn show(&self, command: &mut Command) -> Result<String> {
        interrupt::check()?;
        self.typed(&shell::typed(command));
        let output = shell::read(command)?;
        output.lines().for_each(|line| println!("  {line}"));
        Ok(output)
    }

    /// Shows the command and starts it in the background; its lines are collected, and shown as they come.
    ///
    /// # Errors
    /// When it can't be started, or the user pressed Ctrl-C.
    pub(super) fn follow(&self, command: &mut Command) -> Result<Follower> {
        interrupt::check()?;
        self.typed(&format!("{} &", shell::typed(command)));
        let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| shell::typed(command))?;
        let output = child.stdout.take().context("its stdout is piped")?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let collected = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                println!("  | {line}");
                collected.lock().expect("a push doesn't panic").push(line);
            }
        });
        Ok(Follower { child, lines })
    }

    /// Says what was seen when `holds`.
    ///
    /// # Errors
    /// When it doesn't, or the user pressed Ctrl-C, which may be why.
    pub(super) fn check(&self, holds: bool, what: &str) -> Result<()> {
        interrupt::check()?;
        ensure!(holds, "this was not seen: {what}");
        self.seen(what);
        Ok(())
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A command in the background; dropping it ends it.
#[derive(Debug)]
pub(super) struct Follower {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Follower {
    /// The lines so far.
    pub(super) fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("a push doesn't panic").clone()
    }

    /// Whether it has ended by itself.
    pub(super) fn ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // Both fail only when it is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
