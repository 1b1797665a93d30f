//! The direction of knowledge: `cargo metadata` against the table in `tidy.toml`.
//!
//! It refuses arrows that aren't listed, listed arrows that don't exist, and arrows that don't go down.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::settings::{Crate, Settings};
use crate::shell;

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    /// `None` is an ordinary dependency, else `dev` or `build`.
    kind: Option<String>,
    path: Option<String>,
}

impl Package {
    fn directory(&self) -> &str {
        let directory = Path::new(&self.manifest_path).parent().and_then(Path::file_name);
        directory.and_then(|name| name.to_str()).unwrap_or(&self.name)
    }

    fn is_named_after_its_directory(&self) -> bool {
        let directory = self.directory();
        self.name == directory || self.name == format!("hypercore-{directory}")
    }

    /// The house's crates it uses, by directory, with the kind of dependency.
    fn neighbours(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.dependencies.iter().filter_map(|dependency| {
            let directory = Path::new(dependency.path.as_deref()?).file_name()?.to_str()?;
            Some((directory, dependency.kind.as_deref()))
        })
    }

    /// The libraries that what is shipped links, without the house's own.
    fn libraries(&self) -> impl Iterator<Item = &str> {
        let shipped = |one: &&Dependency| one.path.is_none() && one.kind.is_none();
        self.dependencies.iter().filter(shipped).map(|one| one.name.as_str())
    }
}

/// Answers a line for each problem.
///
/// # Errors
/// When cargo can't tell the graph.
pub(super) fn check(root: &Path, settings: &Settings) -> Result<Vec<String>> {
    let mut command = shell::cargo();
    command.args(["metadata", "--format-version", "1", "--no-deps"]);
    let metadata: Metadata = serde_json::from_str(&shell::read(&mut command)?).context("cargo metadata")?;
    let mut problems = compare(&metadata, settings);
    for (name, _) in settings.crates.iter().filter(|(_, one)| one.pure) {
        let lints =
            std::fs::read_to_string(root.join("crates").join(name).join("clippy.toml")).unwrap_or_default();
        problems.extend(missing_bans(name, &lints, &settings.purity.banned));
    }
    Ok(problems)
}

fn compare(metadata: &Metadata, settings: &Settings) -> Vec<String> {
    let mut problems = Vec::new();
    let packages: BTreeMap<&str, &Package> =
        metadata.packages.iter().map(|one| (one.directory(), one)).collect();
    for name in settings.crates.keys().filter(|name| !packages.contains_key(name.as_str())) {
        problems.push(format!("tidy.toml: crates.{name} is listed but doesn't exist"));
    }
    for (directory, package) in packages {
        if !package.is_named_after_its_directory() {
            problems.push(format!("crates/{directory}: the package is named {}", package.name));
        }
        match settings.crates.get(directory) {
            Some(place) => problems.extend(compare_one(directory, package, place, settings)),
            None => problems.push(format!("crates/{directory} has no place in tidy.toml")),
        }
    }
    problems
}

fn compare_one(name: &str, package: &Package, place: &Crate, settings: &Settings) -> Vec<String> {
    let mut problems = Vec::new();
    let mut used = BTreeSet::new();
    for (neighbour, kind) in package.neighbours() {
        let Some(other) = settings.crates.get(neighbour) else { continue };
        let for_tests = kind == Some("dev");
        if for_tests && (other.development || place.uses.contains(neighbour)) {
            continue;
        }
        used.insert((neighbour, for_tests));
        let listed = if for_tests { &place.tests_use } else { &place.uses };
        if !listed.contains(neighbour) {
            problems.push(format!("crates/{name}: a new arrow to {neighbour}; the house doesn't have it"));
        }
        if other.floor >= place.floor && !for_tests {
            problems.push(format!(
                "crates/{name} (floor {}) uses {neighbour} (floor {}): arrows only go down",
                place.floor, other.floor
            ));
        }
    }
    let listed =
        place.uses.iter().map(|one| (one, false)).chain(place.tests_use.iter().map(|one| (one, true)));
    for (unused, _) in listed.filter(|(one, for_tests)| !used.contains(&(one.as_str(), *for_tests))) {
        problems.push(format!("tidy.toml: crates.{name} may use {unused} but doesn't: remove the arrow"));
    }
    if place.pure {
        let foreign = package.libraries().filter(|library| !settings.purity.libraries.contains(*library));
        problems
            .extend(foreign.map(|library| format!("crates/{name} is pure and may not depend on {library}")));
    }
    problems
}

fn missing_bans(name: &str, lints: &str, banned: &BTreeSet<String>) -> Vec<String> {
    let missing = banned.iter().filter(|path| !lints.contains(&format!("\"{path}\"")));
    missing.map(|path| format!("crates/{name} is pure: its clippy.toml must ban {path}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = r#"
        sizes = { file_lines = 1, function_lines = 1, file_lines_max = 1, function_lines_max = 1 }
        names.banned = []
        purity = { libraries = ["serde"], banned = ["std::thread::spawn"] }
        crates.model = { floor = 1, pure = true }
        crates.agent = { floor = 4, uses = ["model"] }
        crates.fixtures = { floor = 0, development = true }
    "#;

    fn package(directory: &str, dependencies: &[(&str, Option<&str>, bool)]) -> Package {
        let dependency = |&(name, kind, ours): &(&str, Option<&str>, bool)| Dependency {
            name: name.to_owned(),
            kind: kind.map(str::to_owned),
            path: ours.then(|| format!("/w/crates/{name}")),
        };
        Package {
            name: format!("hypercore-{directory}"),
            manifest_path: format!("/w/crates/{directory}/Cargo.toml"),
            dependencies: dependencies.iter().map(dependency).collect(),
        }
    }

    fn problems(packages: Vec<Package>) -> Vec<String> {
        compare(&Metadata { packages }, &toml::from_str(TABLE).unwrap())
    }

    #[test]
    fn the_listed_house_is_in_order() {
        let agent = package("agent", &[("model", None, true), ("fixtures", Some("dev"), true)]);
        let model = package("model", &[("serde", None, false), ("proptest", Some("dev"), false)]);
        assert_eq!(problems(vec![agent, model, package("fixtures", &[])]), Vec::<String>::new());
    }

    #[test]
    fn new_arrows_impure_libraries_and_strangers_are_refused() {
        let found = problems(vec![
            package("agent", &[]),
            package("model", &[("agent", None, true), ("tokio", None, false)]),
            package("fixtures", &[]),
            package("stranger", &[]),
        ]);
        let expected = [
            "tidy.toml: crates.agent may use model but doesn't",
            "crates/model: a new arrow to agent",
            "crates/model (floor 1) uses agent (floor 4)",
            "crates/model is pure and may not depend on tokio",
            "crates/stranger has no place",
        ];
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (line, start) in found.iter().zip(expected) {
            assert!(line.starts_with(start), "{line}");
        }
    }

    #[test]
    fn tests_have_arrows_of_their_own() {
        let table = format!("{TABLE}\ncrates.shim = {{ floor = 2, tests_use = [\"agent\"] }}");
        let settings: Settings = toml::from_str(&table).unwrap();
        let found = |kind| {
            let agent = package("agent", &[("model", None, true)]);
            let shim = package("shim", &[("agent", kind, true)]);
            let packages = vec![agent, package("model", &[]), package("fixtures", &[]), shim];
            compare(&Metadata { packages }, &settings).len()
        };
        assert_eq!((found(Some("dev")), found(None)), (0, 3));
    }

    #[test]
    fn tools_are_for_tests_only() {
        let shipped = problems(vec![
            package("agent", &[("model", None, true), ("fixtures", None, true)]),
            package("model", &[]),
            package("fixtures", &[]),
        ]);
        assert_eq!(shipped, ["crates/agent: a new arrow to fixtures; the house doesn't have it"]);
    }
}
