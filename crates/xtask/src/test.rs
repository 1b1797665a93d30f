//! `cargo xtask test`: installs what the tests need, builds, and runs all of them.
//!
//! It refuses to skip silently: without root, the tests that need it say that they were skipped. And it refuses tests
//! that leave a process, mount, network namespace, link, nft table or cgroup behind.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hypercore_fixtures::Leftovers;
use hypercore_fixtures::host::SKIPPED_FILE;

use crate::{guest, install, kernel, shell};

/// What our programs are called, how the names of our network interfaces begin, and where tests mount.
const OURS: [&str; 3] = ["hypercore", "link hc", "mount /tmp"];
/// How long the kernel may take to clear away what nobody uses any more.
const SETTLE: Duration = Duration::from_secs(10);

/// Runs all tests; `arguments` go to nextest.
///
/// # Errors
/// When something can't be installed or built, or a test fails.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    install::packages(&install::TEST_PACKAGES)?;
    install::cargo_tool(&install::NEXTEST)?;
    // Tests start the built programs; nextest builds only the ones of the crate under test.
    shell::run(shell::cargo().args(["build", "--workspace", "--bins", "--locked"]))?;
    guest::build("debug")?;
    kernel::fetch();
    install::vsock_device();
    if arguments.is_empty() {
        shell::run(shell::cargo().args(["test", "--workspace", "--doc", "--locked", "--quiet"]))?;
    }
    let directory = tempfile::tempdir().context("making a scratch directory")?;
    let skipped = directory.path().join("skipped");
    let mut nextest = shell::cargo();
    nextest.args(["nextest", "run", "--locked"]).args(arguments).env(SKIPPED_FILE, &skipped);
    let before = Leftovers::naming(&OURS);
    let result = shell::run(&mut nextest);
    report_skipped(&std::fs::read_to_string(&skipped).unwrap_or_default());
    result.and_then(|()| nothing_left(&before))
}

/// What tests that passed one by one may still have left on the machine together.
fn nothing_left(before: &Leftovers) -> Result<()> {
    let left = before.wait_for_none_new(SETTLE);
    left.iter().for_each(|one| eprintln!("left behind: {one}"));
    ensure!(left.is_empty(), "the tests left {} things behind", left.len());
    Ok(())
}

/// nextest counts a test that returned early as passed and hides what it said: here it is said again.
fn report_skipped(skipped: &str) {
    if skipped.is_empty() {
        return;
    }
    println!("\n{skipped}{} tests were skipped, for the reasons above", skipped.lines().count());
}
