//! `tidy.toml` as types.
//!
//! It refuses unknown keys: a misspelt rule would be no rule.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

/// The whole of `tidy.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    pub(super) sizes: Sizes,
    #[serde(default)]
    pub(super) exceptions: Vec<Exception>,
    pub(super) names: Names,
    pub(super) purity: Purity,
    /// By directory below `crates/`.
    pub(super) crates: BTreeMap<String, Crate>,
}

/// Lines a file and a function may have: without a reason, and with one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sizes {
    pub(super) file_lines: usize,
    pub(super) function_lines: usize,
    pub(super) file_lines_max: usize,
    pub(super) function_lines_max: usize,
}

/// A file, or one function in it, that may be longer, and why.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Exception {
    pub(super) file: String,
    pub(super) function: Option<String>,
    pub(super) lines: usize,
    pub(super) reason: String,
}

/// Names that say nothing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Names {
    pub(super) banned: BTreeSet<String>,
}

/// What holds for every pure crate.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Purity {
    /// Libraries that neither look at a clock nor do input and output behind their caller's back.
    pub(super) libraries: BTreeSet<String>,
    /// What each pure crate's `clippy.toml` must ban.
    pub(super) banned: BTreeSet<String>,
}

/// One crate's place in the house.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Crate {
    pub(super) floor: u8,
    #[serde(default)]
    pub(super) pure: bool,
    /// Only tests and tools may use it.
    #[serde(default)]
    pub(super) development: bool,
    /// The crates of the house it may use, by directory; each must be used.
    #[serde(default)]
    pub(super) uses: BTreeSet<String>,
    /// Those that only its tests use; they may lie on any floor.
    #[serde(default)]
    pub(super) tests_use: BTreeSet<String>,
}

/// Reads `tidy.toml` below `root`.
///
/// # Errors
/// When it can't be read or has a mistake.
pub(super) fn read(root: &Path) -> Result<Settings> {
    let path = root.join("tidy.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    toml::from_str(&text).context("tidy.toml")
}
