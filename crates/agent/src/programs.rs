//! Where the programs are that the agent starts. It refuses to look for them in `PATH`: they belong to this release.

use std::path::{Path, PathBuf};

/// The program of this name: beside the one that runs now, as cargo builds them, or in `../libexec/hypercore`, where
/// packages install it.
///
/// # Errors
/// The path beside this program, when it is at neither place.
pub fn find_program(name: &str) -> Result<PathBuf, PathBuf> {
    let this = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/usr/bin/hypercore"));
    let beside = this.with_file_name(name);
    let packaged = this.parent().and_then(Path::parent).map(|root| root.join("libexec/hypercore").join(name));
    let found = [Some(beside.clone()), packaged].into_iter().flatten().find(|path| path.is_file());
    found.ok_or(beside)
}
