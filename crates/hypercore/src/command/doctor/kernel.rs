//! Fetching a kernel for microVMs: Debian's for clouds, unpacked and not installed. It refuses to touch the machine's
//! own kernel and its boot loader.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::fix::{FixError, read};

/// The package that names the newest kernel of its kind.
const PACKAGE: &str = "linux-image-cloud-amd64";

/// Unpacks the newest kernel into `directory`, which must not be there, and answers its package's name.
pub(super) fn fetch(directory: &Path) -> Result<String, FixError> {
    let new = directory.with_extension("new");
    let changed = |error| FixError::Change(new.clone(), error);
    if new.exists() {
        // Of a fetch that was ended in its midst.
        fs::remove_dir_all(&new).map_err(changed)?;
    }
    fs::create_dir_all(&new).map_err(changed)?;
    let unpacked = unpack(&new);
    let placed = unpacked.and_then(|(package, tree)| {
        let moved = fs::rename(tree, directory);
        moved.map_err(|error| FixError::Change(directory.to_owned(), error))?;
        Ok(package)
    });
    fs::remove_dir_all(&new).map_err(changed)?;
    placed
}

fn unpack(scratch: &Path) -> Result<(String, PathBuf), FixError> {
    let depends = || read(&["apt-cache", "depends", PACKAGE], scratch);
    let newest = depends().ok().and_then(|told| package_in(&told));
    let package = match newest {
        Some(package) => package,
        None => {
            // A machine that was just made has no lists yet.
            read(&["apt-get", "update"], scratch)?;
            package_in(&depends()?).ok_or(FixError::NoPackage(PACKAGE))?
        }
    };
    // As root, apt would fetch as a user who can't write to where only root can.
    read(&["apt-get", "--option", "APT::Sandbox::User=root", "download", &package], scratch)?;
    let brought = fs::read_dir(scratch).map_err(|error| FixError::Change(scratch.to_owned(), error))?;
    let mut brought = brought.flatten().map(|entry| entry.path());
    let archive = brought.find(|path| path.extension().is_some_and(|end| end == "deb"));
    let archive = archive.ok_or(FixError::NoPackage(PACKAGE))?;
    let tree = scratch.join("tree");
    read(&["dpkg", "--extract", &archive.to_string_lossy(), &tree.to_string_lossy()], scratch)?;
    Ok((package, tree))
}

/// What it depends on, as `apt-cache depends` tells it.
fn package_in(dependencies: &str) -> Option<String> {
    let named = dependencies.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
    named.map(|rest| format!("linux-image-{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_is_what_the_package_depends_on() {
        let told = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n";
        assert_eq!(package_in(told).as_deref(), Some("linux-image-6.1.0-56-cloud-amd64"));
        assert_eq!(package_in("N: Unable to locate package\n"), None);
    }
}
