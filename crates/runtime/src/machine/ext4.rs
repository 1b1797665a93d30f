//! Making ext4 filesystems in files. It refuses to read one: what a guest wrote is never taken apart on the host.

use std::{io, path::Path, process::Command};

/// Why there is no filesystem.
#[derive(Debug, thiserror::Error)]
pub enum Ext4Error {
    /// A program of e2fsprogs can't be run.
    #[error("{0} can't be run; it is in the package e2fsprogs")]
    Tool(&'static str, #[source] io::Error),
    /// It failed.
    #[error("{0} failed: {1}")]
    Failed(&'static str, String),
}

/// Makes a filesystem in the file at `path`, which has its size already, with a copy of `content` if that is given.
/// Nothing of it is kept free for root. Blocks.
///
/// # Errors
/// [`Ext4Error`]; content that is larger than the file among it.
pub(crate) fn make(path: &Path, options: &[&str], content: Option<&Path>) -> Result<(), Ext4Error> {
    let mut command = Command::new("mkfs.ext4");
    command.args(["-q", "-F", "-m", "0"]).args(options);
    if let Some(content) = content {
        command.arg("-d").arg(content);
    }
    run("mkfs.ext4", command.arg(path)).map(drop)
}

/// Runs a program of e2fsprogs to its end; its standard output.
pub(crate) fn run(name: &'static str, command: &mut Command) -> Result<String, Ext4Error> {
    let output = command.output().map_err(|error| Ext4Error::Tool(name, error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Ext4Error::Failed(name, String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    #[test]
    fn content_that_does_not_fit_is_told() {
        let scratch = tempfile::tempdir().unwrap();
        let (path, content) = (scratch.path().join("disk"), scratch.path().join("content"));
        File::create(&path).unwrap().set_len(4 << 20).unwrap();
        make(&path, &[], None).unwrap();
        fs::create_dir(&content).unwrap();
        fs::write(content.join("large"), vec![1; 8 << 20]).unwrap();
        let refused = make(&path, &[], Some(&content)).unwrap_err();
        assert!(matches!(&refused, Ext4Error::Failed("mkfs.ext4", said) if !said.is_empty()), "{refused}");
    }
}
