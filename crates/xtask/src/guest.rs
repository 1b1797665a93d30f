//! `cargo xtask guest`: the program that is process 1 of microVMs, built static and small, beside the programs that
//! look for it.
//!
//! It refuses to leave it to `cargo build --workspace`: that links it dynamically, and a microVM has no libc to load. And it
//! refuses a program that has become too large: every boot of every microVM unpacks it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::shell;

const NAME: &str = "hypercore-guest";
/// Most bytes that the program may have.
const LEN_MAX: u64 = 2 << 20;

/// Builds it and puts it into `target/<directory>`, where `directory` is cargo's for a profile, such as `debug`.
/// To be called after the other programs were built, as building them may put a dynamic one there.
///
/// # Errors
/// When it can't be built or copied, or is too large.
pub(crate) fn build(directory: &str) -> Result<PathBuf> {
    let mut rustc = shell::cargo();
    rustc.args(["rustc", "--locked", "--package", NAME, "--bin", NAME, "--profile", "guest"]);
    // For this program alone: as RUSTFLAGS they would be every dependency's and every other program's.
    rustc.args(["--", "-C", "target-feature=+crt-static"]);
    shell::run(&mut rustc)?;
    let target = shell::workspace().join("target");
    let placed = target.join(directory).join(NAME);
    let built = target.join("guest").join(NAME);
    let len = fs::metadata(&built).with_context(|| format!("looking at {}", built.display()))?.len();
    if len > LEN_MAX {
        bail!("{NAME} has {len} bytes, more than the {LEN_MAX} that it may have");
    }
    replace(&built, &placed)?;
    Ok(placed)
}

/// Runs `cargo xtask guest`.
///
/// # Errors
/// As [`build`], or for unknown arguments.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let directory = match arguments {
        [] => "debug",
        [flag] if flag == "--release" => "release",
        _ => bail!("usage: cargo xtask guest [--release]"),
    };
    println!("{}", build(directory)?.display());
    Ok(())
}

/// A copy in one step: what lies there may run right now, or be another name of a file in cargo's own directory.
fn replace(source: &Path, target: &Path) -> Result<()> {
    let parent = target.parent().context("a program lies in a directory")?;
    fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
    let new = target.with_extension("new");
    fs::copy(source, &new).with_context(|| format!("copying {}", source.display()))?;
    fs::rename(&new, target).with_context(|| format!("replacing {}", target.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_names_of_what_was_there_keep_their_content() {
        let scratch = tempfile::tempdir().unwrap();
        let [source, target, other] = ["source", "target", "other"].map(|name| scratch.path().join(name));
        fs::write(&source, "static").unwrap();
        fs::write(&target, "dynamic").unwrap();
        fs::hard_link(&target, &other).unwrap();
        replace(&source, &target).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "static");
        assert_eq!(fs::read_to_string(&other).unwrap(), "dynamic");
    }
}
