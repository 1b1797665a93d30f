//! `cargo xtask ci`: every check that a change has to pass, cheapest first.
//!
//! It refuses to go on after a failure.

use std::time::Instant;

use anyhow::{Context, Result};

use crate::{install, shell, test, tidy};

/// Runs all checks.
///
/// # Errors
/// The first check that fails, by name.
pub(crate) fn run() -> Result<()> {
    step("format", || shell::run(shell::cargo().args(["fmt", "--all", "--check"])))?;
    step("tidy", tidy::run)?;
    step("deny", deny)?;
    step("clippy", clippy)?;
    step("test", || test::run(&[]))
}

fn clippy() -> Result<()> {
    let mut command = shell::cargo();
    command.args(["clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "-D", "warnings"]);
    shell::run(&mut command)
}

fn deny() -> Result<()> {
    install::cargo_tool(&install::DENY)?;
    shell::run(shell::cargo().args(["deny", "--log-level", "error", "check", "bans", "licenses", "sources"]))
}

fn step(name: &str, check: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("== {name}");
    let start = Instant::now();
    check().with_context(|| format!("the {name} check failed"))?;
    println!("== {name}: ok in {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}
