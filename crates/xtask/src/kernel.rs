//! The kernel that microVMs boot in tests, the demo and the benchmarks: Debian's for clouds, unpacked into
//! `target/kernel` once.
//!
//! It refuses to install it: a machine's own kernel is not ours to change.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use hypercore_fixtures::guest_kernel;

use crate::shell;

/// The package that names the newest kernel of its kind.
const PACKAGE: &str = "linux-image-cloud-amd64";

/// Fetches it unless it is there. A machine that can't do without microVMs: their tests say that they were skipped.
pub(crate) fn fetch() {
    if guest_kernel().is_some() {
        return;
    }
    if let Err(error) = download() {
        println!("there is no kernel for microVMs: {error:#}");
    }
}

fn download() -> Result<()> {
    let newest = || package_in(&shell::read(Command::new("apt-cache").args(["depends", PACKAGE]))?);
    let package = match newest() {
        Ok(package) => package,
        Err(_) => {
            shell::run(Command::new("apt-get").args(["--quiet", "update"]))?;
            newest()?
        }
    };
    let target = shell::workspace().join("target");
    fs::create_dir_all(&target).with_context(|| format!("making {}", target.display()))?;
    let scratch = tempfile::tempdir_in(&target).context("making a scratch directory")?;
    let mut get = Command::new("apt-get");
    // As root, apt would fetch as a user who can't write here.
    get.args(["--quiet", "--option", "APT::Sandbox::User=root", "download", &package]);
    shell::run(get.current_dir(scratch.path()))?;
    let archive = downloaded(scratch.path())?;
    let unpacked = scratch.path().join("kernel");
    shell::run(Command::new("dpkg").arg("--extract").args([&archive, &unpacked]))?;
    let placed = target.join("kernel");
    fs::rename(&unpacked, &placed).with_context(|| format!("making {}", placed.display()))
}

/// What it depends on, as `apt-cache depends` tells it.
fn package_in(dependencies: &str) -> Result<String> {
    let named = dependencies.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
    Ok(format!("linux-image-{}", named.with_context(|| format!("Debian has no {PACKAGE}"))?))
}

fn downloaded(directory: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?;
    let mut paths = entries.flatten().map(|entry| entry.path());
    paths.find(|path| path.extension().is_some_and(|end| end == "deb")).context("apt-get brought no package")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_is_what_the_package_depends_on() {
        let told = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n";
        assert_eq!(package_in(told).unwrap(), "linux-image-6.1.0-56-cloud-amd64");
        assert!(package_in("").is_err());
    }
}
