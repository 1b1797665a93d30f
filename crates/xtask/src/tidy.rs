//! `cargo xtask tidy`: what the house promises about itself, as a test.
//!
//! ```text
//!   tidy.toml --> settings --+--> graph   who may know whom, floors, what pure crates may depend on
//!                            +--> source  sizes, headers, names, attributes of each file
//! ```
//!
//! It refuses to mend anything, and to let an exception stay that is no longer needed.

mod graph;
mod settings;
mod source;

use anyhow::{Result, bail};

use crate::shell;

/// Checks everything and prints each problem on a line of its own.
///
/// # Errors
/// When there is a problem, or the checks couldn't be made.
pub(crate) fn run() -> Result<()> {
    let root = shell::workspace();
    let settings = settings::read(&root)?;
    let mut problems = graph::check(&root, &settings)?;
    let (files, found) = source::check(&root, &settings)?;
    problems.extend(found);
    if problems.is_empty() {
        println!("tidy: {} crates and {files} files are in order", settings.crates.len());
        return Ok(());
    }
    for problem in &problems {
        eprintln!("{problem}");
    }
    bail!("{} untidy things; the rules and their reasons are in STYLE.md and tidy.toml", problems.len());
}
