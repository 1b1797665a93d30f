//! `cargo xtask test`: installs what the tests need, builds, and runs all of them.
//!
//! It refuses to skip silently: without root, the tests that need it say that they were skipped.

use anyhow::{Context, Result};
use hypercore_fixtures::host::SKIPPED_FILE;

use crate::{install, shell};

/// Runs all tests; `arguments` go to nextest.
///
/// # Errors
/// When something can't be installed or built, or a test fails.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    install::packages(&install::TEST_PACKAGES)?;
    install::cargo_tool(&install::NEXTEST)?;
    // Tests start the built programs; nextest builds only the ones of the crate under test.
    shell::run(shell::cargo().args(["build", "--workspace", "--bins", "--locked"]))?;
    if arguments.is_empty() {
        shell::run(shell::cargo().args(["test", "--workspace", "--doc", "--locked", "--quiet"]))?;
    }
    let directory = tempfile::tempdir().context("making a scratch directory")?;
    let skipped = directory.path().join("skipped");
    let mut nextest = shell::cargo();
    nextest.args(["nextest", "run", "--workspace", "--locked"]).args(arguments).env(SKIPPED_FILE, &skipped);
    let result = shell::run(&mut nextest);
    report_skipped(&std::fs::read_to_string(&skipped).unwrap_or_default());
    result
}

/// nextest counts a test that returned early as passed and hides what it said: here it is said again.
fn report_skipped(skipped: &str) {
    if skipped.is_empty() {
        return;
    }
    println!(
        "\n{skipped}{} tests were skipped above: run `cargo xtask test` as root to run all",
        skipped.lines().count()
    );
}
