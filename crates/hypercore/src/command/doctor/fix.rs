//! What `doctor --fix` does about a finding. Each repair is one small step that an administrator would type; it refuses
//! everything that loses data or changes what others on the machine rely on.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::kernel;

/// Where settings of the kernel are kept over a restart of the machine.
const SYSCTL_FILE: &str = "/etc/sysctl.d/60-hypercore.conf";

/// One repair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fix {
    /// Install a Debian package.
    Install(&'static str),
    /// Load a module of the kernel.
    LoadModule(&'static str),
    /// Unpack a kernel for microVMs into this directory.
    FetchKernel(PathBuf),
    /// Give a directory to root alone.
    Close(PathBuf),
    /// Remove a socket that nobody listens on.
    RemoveSocket(PathBuf),
    /// Set a number of the kernel, now and at its next start.
    Sysctl { key: &'static str, value: u64 },
}

/// Why a repair failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum FixError {
    /// A program can't be started.
    #[error("{0} can't be run")]
    Run(String, #[source] io::Error),
    /// A program failed.
    #[error("{0} failed: {1}")]
    Failed(String, String),
    /// The distribution has no such package, or brought none.
    #[error("there is no package {0}")]
    NoPackage(&'static str),
    /// A file or directory can't be changed.
    #[error("{} can't be changed", .0.display())]
    Change(PathBuf, #[source] io::Error),
}

impl Fix {
    /// Does it, and says what was done.
    pub(super) fn apply(&self) -> Result<String, FixError> {
        match self {
            Self::Install(package) => {
                let install = ["apt-get", "install", "--yes", "--no-install-recommends", package];
                // A machine that was just made has no lists yet.
                run(&install).or_else(|_| run(&["apt-get", "update"]).and_then(|()| run(&install)))?;
                Ok(format!("installed the package {package}"))
            }
            Self::LoadModule(module) => {
                run(&["modprobe", module])?;
                Ok(format!("loaded the module {module}"))
            }
            Self::FetchKernel(directory) => {
                let package = kernel::fetch(directory)?;
                Ok(format!(
                    "unpacked {package} into {}; an agent finds it when it starts",
                    directory.display()
                ))
            }
            Self::Close(path) => {
                let closed = chown(path, Some(0), Some(0))
                    .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o700)));
                closed.map_err(|error| FixError::Change(path.clone(), error))?;
                Ok(format!("gave {} to root alone", path.display()))
            }
            Self::RemoveSocket(path) => {
                fs::remove_file(path).map_err(|error| FixError::Change(path.clone(), error))?;
                Ok(format!("removed {}, which nobody listened on", path.display()))
            }
            Self::Sysctl { key, value } => {
                set(key, *value)?;
                Ok(format!("set {key} to {value}, now and in {SYSCTL_FILE}"))
            }
        }
    }
}

fn run(words: &[&str]) -> Result<(), FixError> {
    read(words, Path::new("/")).map(drop)
}

/// Runs a program in a directory, and answers what it wrote.
pub(super) fn read(words: &[&str], directory: &Path) -> Result<String, FixError> {
    let line = words.join(" ");
    let output = Command::new(words[0])
        .args(&words[1..])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| FixError::Run(line.clone(), error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let told = String::from_utf8_lossy(&output.stderr);
    let last = told.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    Err(FixError::Failed(line, last.trim().to_owned()))
}

fn set(key: &str, value: u64) -> Result<(), FixError> {
    let path = Path::new("/proc/sys").join(key.replace('.', "/"));
    fs::write(&path, value.to_string()).map_err(|error| FixError::Change(path, error))?;
    let kept = Path::new(SYSCTL_FILE);
    let before = fs::read_to_string(kept).unwrap_or_default();
    fs::write(kept, with_setting(&before, key, value))
        .map_err(|error| FixError::Change(kept.to_owned(), error))
}

/// The file's text with this setting in place of an earlier one.
fn with_setting(before: &str, key: &str, value: u64) -> String {
    let is_other = |line: &&str| line.split('=').next().map(str::trim) != Some(key);
    let mut text: String = before.lines().filter(is_other).map(|line| format!("{line}\n")).collect();
    text.push_str(&format!("{key} = {value}\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_stands_once() {
        let text = with_setting("# ours\na.b = 1\nc = 2\n", "a.b", 7);
        assert_eq!(text, "# ours\nc = 2\na.b = 7\n");
        assert_eq!(with_setting(&text, "a.b", 7), text);
    }

    #[test]
    fn what_fails_says_which_step() {
        let error = run(&["sh", "-c", "echo first >&2; echo why >&2; exit 3"]).unwrap_err();
        assert!(error.to_string().ends_with("failed: why"), "{error}");
        assert!(matches!(run(&["/nonexistent/program"]), Err(FixError::Run(..))));
    }

    #[test]
    fn a_directory_is_closed_and_a_socket_removed() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("api.sock");
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        Fix::RemoveSocket(socket.clone()).apply().unwrap();
        assert!(!socket.exists());
        if nix::unistd::geteuid().is_root() {
            fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
            Fix::Close(directory.path().to_owned()).apply().unwrap();
            assert_eq!(fs::metadata(directory.path()).unwrap().permissions().mode() & 0o777, 0o700);
        }
    }
}
