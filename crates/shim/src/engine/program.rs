//! Finding the program of a process, from inside its rootfs and as its user, the way a shell does (POSIX.1-2017,
//! XCU 2.9.1.1). It refuses before the start what execve would refuse after it, so that nothing has run.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    unistd::{AccessFlags, eaccess},
};

use crate::report::{Failure, FailureCode};

/// Where programs are looked up if the environment doesn't say.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The file to execute for `name`, which is looked up in the `PATH` of `env` unless it has a slash.
pub(super) fn find(name: &str, env: &[String]) -> Result<PathBuf, Failure> {
    if name.contains('/') {
        return match check(Path::new(name)) {
            Ok(()) => Ok(PathBuf::from(name)),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Err(not_found(&format!("no such file: {name}"))),
            Err(errno) => Err(not_executable(name, errno)),
        };
    }
    let path = env.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(PATH_DEFAULT);
    let mut refusal = None;
    for directory in path.split(':') {
        // An empty entry is the working directory.
        let file = Path::new(if directory.is_empty() { "." } else { directory }).join(name);
        match check(&file) {
            Ok(()) => return Ok(file),
            // A directory of that name may stand in the way; shells go on too.
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EISDIR) => {}
            Err(errno) => refusal = refusal.or(Some(not_executable(&file.display().to_string(), errno))),
        }
    }
    Err(refusal.unwrap_or_else(|| not_found(&format!("no `{name}` in PATH ({path})"))))
}

/// What execve said about a file that [`find`] let pass.
pub(super) fn refused(file: &Path, errno: Errno) -> Failure {
    let file = file.display().to_string();
    match errno {
        Errno::ENOENT => not_found(&format!("the interpreter or loader that {file} asks for is missing")),
        Errno::ENOEXEC => {
            not_executable(&format!("{file} (neither a program of this machine nor a script)"), errno)
        }
        Errno::EACCES | Errno::EPERM | Errno::ELIBBAD | Errno::EINVAL => not_executable(&file, errno),
        _ => Failure {
            code: FailureCode::Engine,
            message: printable(&format!("{file} can't be executed: {}", errno.desc())),
        },
    }
}

fn check(file: &Path) -> Result<(), Errno> {
    let error_of = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
    // A directory has execute permission, of another kind.
    if fs::metadata(file).map_err(error_of)?.is_dir() {
        return Err(Errno::EISDIR);
    }
    eaccess(file, AccessFlags::X_OK)
}

fn not_found(message: &str) -> Failure {
    Failure { code: FailureCode::CommandNotFound, message: printable(message) }
}

fn not_executable(file: &str, errno: Errno) -> Failure {
    Failure {
        code: FailureCode::NotExecutable,
        message: printable(&format!("{file} is not executable: {}", errno.desc())),
    }
}

/// Names come from images, and may be meant for the terminal of whoever reads the message.
fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn programs_are_found_as_a_shell_finds_them() {
        let directory = tempfile::tempdir().unwrap();
        let path_of = |name: &str| directory.path().join(name).display().to_string();
        for (name, mode) in [("good/tool", 0o755), ("plain/tool", 0o644), ("plain/only", 0o644)] {
            let file = directory.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, "").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        }
        let env = [format!("PATH={}:{}:{}", path_of("none"), path_of("plain"), path_of("good"))];
        let code = |name: &str| find(name, &env).map_err(|failure| failure.code);

        assert_eq!(code("tool"), Ok(PathBuf::from(path_of("good/tool"))));
        assert_eq!(code(&path_of("good/tool")), Ok(PathBuf::from(path_of("good/tool"))));
        assert_eq!(code("only"), Err(FailureCode::NotExecutable));
        assert_eq!(code("absent"), Err(FailureCode::CommandNotFound));
        assert_eq!(code(""), Err(FailureCode::CommandNotFound));
        assert_eq!(code(&path_of("good")), Err(FailureCode::NotExecutable));
        assert_eq!(code(&path_of("absent/tool")), Err(FailureCode::CommandNotFound));
        assert_eq!(code(&path_of("good/tool/x")), Err(FailureCode::CommandNotFound));
    }

    #[test]
    fn a_refusal_of_the_kernel_keeps_its_kind() {
        let file = Path::new("/bin/x");
        assert_eq!(refused(file, Errno::ENOENT).code, FailureCode::CommandNotFound);
        assert_eq!(refused(file, Errno::ENOEXEC).code, FailureCode::NotExecutable);
        assert_eq!(refused(file, Errno::E2BIG).code, FailureCode::Engine);
    }
}
