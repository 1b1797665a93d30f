//! `cargo xtask deb`: the Debian package, by cargo-deb from what `crates/hypercore/Cargo.toml` lists; with `--check` it
//! is installed, upgraded under load, removed and purged on a Debian of its own, with a real systemd.
//!
//! It refuses to touch this machine's packages and services.

mod check;
mod machine;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{guest, install, shell};

/// What completions are written for: the shell, and the suffix of the file.
const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

/// What is packed, as `assets` in `crates/hypercore/Cargo.toml` lists it, beside the guest's program.
const PROGRAMS: [&str; 4] = ["hypercore", "hypercore-shim", "hypercore-engine", "hypercore-vmm"];

/// How it is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Profile {
    Release,
    /// For trying the package itself: quick to build, slow to run.
    Dev,
}

impl Profile {
    const fn directory(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Dev => "debug",
        }
    }
}

/// Builds the package; `--check` tries it, `--dev` builds without optimisations, `--no-build` packs what is built already.
///
/// # Errors
/// When it can't be built, or doesn't do what it should.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let (mut is_checked, mut is_built, mut profile) = (false, false, Profile::Release);
    for argument in arguments {
        match argument.as_str() {
            "--check" => is_checked = true,
            "--dev" => profile = Profile::Dev,
            "--no-build" => is_built = true,
            other => bail!("unknown argument {other:?}; there are --check, --dev and --no-build"),
        }
    }
    install::cargo_tool(&install::DEB)?;
    if !is_built {
        build_programs(profile)?;
    }
    write_completions(profile)?;
    let package = pack(profile, 1)?;
    println!("{}", package.display());
    if is_checked {
        install::packages(&install::DEB_PACKAGES)?;
        check::run(&package, &pack(profile, 2)?)?;
    }
    Ok(())
}

fn build_programs(profile: Profile) -> Result<()> {
    let mut build = shell::cargo();
    build.args(["build", "--locked", "--package", "hypercore", "--package", "hypercore-shim"]);
    build.args(PROGRAMS.iter().flat_map(|name| ["--bin", name]));
    if profile == Profile::Release {
        build.arg("--release");
    }
    shell::run(&mut build)?;
    guest::build(profile.directory()).map(drop)
}

fn write_completions(profile: Profile) -> Result<()> {
    let directory = shell::workspace().join("target/package");
    fs::create_dir_all(&directory).context("making target/package")?;
    for name in SHELLS {
        let program = shell::workspace().join("target").join(profile.directory()).join("hypercore");
        let script = shell::read(Command::new(program).args(["completion", name]))?;
        fs::write(directory.join(format!("hypercore.{name}")), script).context("writing completions")?;
    }
    Ok(())
}

/// Packs what was built, as this revision of the version.
fn pack(profile: Profile, revision: u32) -> Result<PathBuf> {
    let output = shell::workspace().join(format!("target/debian/{revision}"));
    // Whatever lies there is of an earlier run.
    let _ = fs::remove_dir_all(&output);
    fs::create_dir_all(&output).context("making target/debian")?;
    let mut command = shell::cargo();
    command.args(["deb", "--package", "hypercore", "--no-build", "--deb-revision", &revision.to_string()]);
    command.arg("--output").arg(&output);
    if profile == Profile::Dev {
        command.args(["--profile", "dev", "--strip", "--fast"]);
    }
    shell::run(&mut command)?;
    package_in(&output)
}

fn package_in(directory: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(directory).context("reading target/debian")?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut packages = paths.filter(|path| path.extension().is_some_and(|end| end == "deb"));
    packages.next().with_context(|| format!("cargo-deb wrote no package to {}", directory.display()))
}
