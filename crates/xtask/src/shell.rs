//! Running other programs and finding the workspace.
//!
//! It refuses to hide a command: what runs is printed first, as one would type it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The workspace's root directory.
pub(crate) fn workspace() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).expect("this crate lies two levels below the root").to_path_buf()
}

/// The cargo that runs us.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace());
    command
}

/// Prints the command and runs it to its end.
///
/// # Errors
/// When it can't be started or doesn't succeed.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    println!("$ {}", typed(command));
    let status = command.status().with_context(|| format!("starting {}", typed(command)))?;
    if !status.success() {
        bail!("{} failed: {status}", typed(command));
    }
    Ok(())
}

/// Runs the command silently and answers what it wrote to stdout.
///
/// # Errors
/// When it can't be started or doesn't succeed; the error holds what it wrote to stderr.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("starting {}", typed(command)))?;
    if !output.status.success() {
        bail!(
            "{} failed: {}\n{}",
            typed(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether the command can be started and succeeds; what it writes is thrown away.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// The command as one would type it, with the program's name for its path.
pub(crate) fn typed(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut text = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    for argument in command.get_args() {
        let argument = argument.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_=/.:,@+[]".contains(c);
        if !argument.is_empty() && argument.chars().all(plain) {
            text.push_str(&format!(" {argument}"));
        } else {
            text.push_str(&format!(" '{}'", argument.replace('\'', r"'\''")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_commands_as_one_would_type_them() {
        let mut command = Command::new("/usr/bin/sh");
        command.args(["-c", "echo 'hi there'", ""]);
        assert_eq!(typed(&command), r"sh -c 'echo '\''hi there'\''' ''");
    }

    #[test]
    fn the_workspace_is_the_root() {
        assert!(workspace().join("tidy.toml").is_file());
    }
}
