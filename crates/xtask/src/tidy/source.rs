//! Each Rust file by itself: its size, its functions, its header, its name, its attributes.
//!
//! It refuses to guess at Rust with text searches: the file is parsed by `syn`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::settings::{Exception, Settings};

/// Answers how many files were read, and a line for each problem.
///
/// # Errors
/// When a file can't be read or isn't Rust.
pub(super) fn check(root: &Path, settings: &Settings) -> Result<(usize, Vec<String>)> {
    let mut files = Vec::new();
    rust_files(&root.join("crates"), &mut files)?;
    files.sort();
    let mut judge = Judge::new(settings);
    for path in &files {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let name = path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned();
        judge.file(&name, &text).with_context(|| name.clone())?;
    }
    judge.stale_exceptions();
    Ok((files.len(), judge.problems))
}

fn rust_files(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            rust_files(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// Collects problems, and which exceptions were needed.
struct Judge<'a> {
    settings: &'a Settings,
    needed: BTreeSet<usize>,
    problems: Vec<String>,
}

impl<'a> Judge<'a> {
    fn new(settings: &'a Settings) -> Self {
        Self { settings, needed: BTreeSet::new(), problems: Vec::new() }
    }

    fn file(&mut self, name: &str, text: &str) -> Result<()> {
        if !text.starts_with("//!") {
            self.problems.push(format!("{name}:1: the file doesn't begin with //! and what it is"));
        }
        self.names(name);
        let sizes = &self.settings.sizes;
        self.size(name, None, 1, text.lines().count(), (sizes.file_lines, sizes.file_lines_max));
        let mut found = Found::default();
        found.visit_file(&syn::parse_file(text).context("this isn't Rust")?);
        for (line, problem) in found.attributes {
            self.problems.push(format!("{name}:{line}: {problem}"));
        }
        for (function, line, lines) in found.functions {
            self.size(name, Some(&function), line, lines, (sizes.function_lines, sizes.function_lines_max));
        }
        Ok(())
    }

    fn names(&mut self, name: &str) {
        for part in Path::new(name).iter().filter_map(|part| part.to_str()) {
            let noun = part.trim_end_matches(".rs");
            if part == "mod.rs" {
                self.problems
                    .push(format!("{name}: no mod.rs: a module foo is foo.rs, its children are in foo/"));
            } else if self.settings.names.banned.contains(noun) {
                self.problems.push(format!("{name}: `{noun}` says nothing about what is inside"));
            }
        }
    }

    /// `limits` are the lines allowed without a reason, and with one.
    fn size(
        &mut self,
        name: &str,
        function: Option<&str>,
        line: usize,
        lines: usize,
        limits: (usize, usize),
    ) {
        if lines <= limits.0 {
            return;
        }
        let what = function.map_or("the file".to_owned(), |function| format!("fn {function}"));
        let excepted = |one: &Exception| one.file == name && one.function.as_deref() == function;
        let Some(index) = self.settings.exceptions.iter().position(excepted) else {
            self.problems.push(format!("{name}:{line}: {what} has {lines} lines, more than {}", limits.0));
            return;
        };
        self.needed.insert(index);
        let exception = &self.settings.exceptions[index];
        let allowed = exception.lines.min(limits.1);
        if lines > allowed {
            self.problems
                .push(format!("{name}:{line}: {what} has {lines} lines, its exception allows {allowed}"));
        }
        if exception.reason.trim().is_empty() {
            self.problems.push(format!("tidy.toml: the exception for {name} gives no reason"));
        }
    }

    fn stale_exceptions(&mut self) {
        for (index, one) in self.settings.exceptions.iter().enumerate() {
            if !self.needed.contains(&index) {
                let what = one.function.as_deref().unwrap_or("the file");
                self.problems.push(format!("tidy.toml: {}: {what} needs no exception: remove it", one.file));
            }
        }
    }
}

/// What one file's syntax tree holds.
#[derive(Default)]
struct Found {
    /// Name, first line, number of lines from the signature to the closing brace.
    functions: Vec<(String, usize, usize)>,
    attributes: Vec<(usize, &'static str)>,
}

impl Found {
    fn function(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let first = signature.span().start().line;
        let last = Span::end(&block.span()).line;
        self.functions.push((signature.ident.to_string(), first, last - first + 1));
    }
}

impl<'ast> Visit<'ast> for Found {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        let line = attribute.span().start().line;
        if attribute.path().is_ident("ignore") {
            self.attributes
                .push((line, "#[ignore]: a test that never runs is none; make it run or remove it"));
        }
        if attribute.path().is_ident("allow") || attribute.path().is_ident("expect") {
            let reasoned =
                attribute.meta.require_list().is_ok_and(|list| list.tokens.to_string().contains("reason ="));
            if !reasoned {
                self.attributes.push((line, "#[allow] without reason = \"...\""));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = r#"
        sizes = { file_lines = 9, function_lines = 3, file_lines_max = 20, function_lines_max = 5 }
        names.banned = ["utils"]
        purity = { libraries = [], banned = [] }
        crates = {}
        [[exceptions]]
        file = "crates/a/src/long.rs"
        function = "grown"
        lines = 4
        reason = "a table"
    "#;

    fn problems(files: &[(&str, &str)]) -> Vec<String> {
        let settings = toml::from_str(TABLE).unwrap();
        let mut judge = Judge::new(&settings);
        for (name, text) in files {
            judge.file(name, text).unwrap();
        }
        judge.stale_exceptions();
        judge.problems
    }

    const GROWN: (&str, &str) = ("crates/a/src/long.rs", "//! x\nfn grown() {\n    1;\n    2;\n}\n");

    #[test]
    fn an_exception_is_used_bounded_and_dropped_when_stale() {
        assert_eq!(problems(&[GROWN]), Vec::<String>::new());
        let longer = GROWN.1.replace("2;", "2;\n3;");
        assert_eq!(
            problems(&[(GROWN.0, &longer)]),
            ["crates/a/src/long.rs:2: fn grown has 5 lines, its exception allows 4"]
        );
        assert_eq!(problems(&[]), ["tidy.toml: crates/a/src/long.rs: grown needs no exception: remove it"]);
    }

    #[test]
    fn headers_names_sizes_and_attributes_are_checked() {
        let text = "mod x {\n    impl Y {\n        #[allow(dead_code)]\n        fn long(\n            a: u8,\n        ) {\n        }\n    }\n}\n#[ignore]\n#[allow(unused, reason = \"r\")]\nfn f() {}\n";
        let found = problems(&[GROWN, ("crates/a/src/utils/mod.rs", text)]);
        let expected = [
            ":1: the file doesn't begin with //!",
            ": `utils` says nothing",
            ": no mod.rs",
            ":1: the file has 12 lines, more than 9",
            ":3: #[allow] without reason",
            ":10: #[ignore]",
            ":4: fn long has 4 lines, more than 3",
        ];
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (line, part) in found.iter().zip(expected) {
            assert!(line.contains(&format!("crates/a/src/utils/mod.rs{part}")), "{line} / {part}");
        }
    }
}
