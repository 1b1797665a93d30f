//! From a file and an environment to a checked [`Config`]: every mistake of both is found before any is reported.
//! It refuses to read the process's environment itself; the caller hands it in.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Config, ConfigError,
    choice::Algorithm,
    mistake::{Mistake, Place, closest},
    schema::{KEYS, TABLES, key, names_in, variable_prefix},
    setting::Raw,
};

/// Where the file is when nobody says otherwise. It may be absent.
pub(crate) const DEFAULT_PATH: &str = "/etc/hypercore/hypercore.toml";

/// A configuration without mistakes.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The values.
    pub(crate) config: Config,
    /// The file they came from; `None` when there is no file.
    pub(crate) path: Option<PathBuf>,
    /// What is allowed and still worth saying.
    pub(crate) warnings: Vec<String>,
}

/// Reads the file (`explicit`, which must exist, or the default one, which may be absent), then the overrides in
/// `environment`.
///
/// # Errors
/// [`ConfigError`]: the file can't be read, or the mistakes, all of them.
pub(crate) fn load(
    explicit: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Loaded, ConfigError> {
    let path = explicit.unwrap_or(Path::new(DEFAULT_PATH));
    let text = match fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound && explicit.is_none() => None,
        Err(source) => return Err(ConfigError::Unreadable { path: path.to_owned(), source }),
    };
    let mut loader = Loader::default();
    if let Some(text) = &text {
        loader.read_file(path, text);
    }
    loader.read_environment(environment);
    loader.check_whole();
    let path = text.is_some().then(|| path.to_owned());
    if loader.mistakes.is_empty() {
        Ok(Loaded { config: loader.config, path, warnings: loader.warnings })
    } else {
        Err(ConfigError::Mistakes(loader.mistakes))
    }
}

/// The defaults alone, for commands that must work when the file is broken.
pub(crate) fn load_defaults() -> Loaded {
    Loaded { config: Config::default(), path: None, warnings: Vec::new() }
}

#[derive(Default)]
struct Loader {
    config: Config,
    mistakes: Vec<Mistake>,
    warnings: Vec<String>,
}

impl Loader {
    fn read_file(&mut self, path: &Path, text: &str) {
        let (document, syntax_errors) = DeTable::parse_recoverable(text);
        let file = File { path, text };
        for error in syntax_errors {
            let offset = error.span().map_or(0, |span| span.start);
            self.mistakes.push(file.mistake(offset, error.message().to_owned()));
        }
        for (table, content) in document.get_ref() {
            self.read_table(&file, table, content);
        }
        self.mistakes.sort_by_key(|mistake| match mistake.place {
            Place::File { line, column, .. } => (line, column),
            Place::Variable(_) => (usize::MAX, 0),
        });
    }

    fn read_table(
        &mut self,
        file: &File<'_>,
        table: &Spanned<impl AsRef<str>>,
        content: &Spanned<DeValue<'_>>,
    ) {
        let (name, offset) = (table.get_ref().as_ref(), table.span().start);
        if !TABLES.contains(&name) {
            self.mistakes.push(file.mistake(offset, unknown_table(name)));
            return;
        }
        let Some(entries) = content.get_ref().as_table() else {
            self.mistakes.push(
                file.mistake(offset, format!("`{name}` is a table: write [{name}] on a line of its own")),
            );
            return;
        };
        for (entry, value) in entries {
            let entry_name = entry.get_ref().as_ref();
            match key(name, entry_name) {
                None => self.mistakes.push(file.mistake(entry.span().start, unknown_key(name, entry_name))),
                Some(key) => {
                    if let Err(why) = (key.set)(&mut self.config, Raw::Toml(value.get_ref())) {
                        let message = format!("[{name}] {entry_name}: {why}");
                        self.mistakes.push(file.mistake(value.span().start, message));
                    }
                }
            }
        }
    }

    fn read_environment(&mut self, environment: impl Iterator<Item = (String, String)>) {
        let mut variables: Vec<_> = environment.filter(|(name, _)| name.starts_with("HYPERCORE_")).collect();
        variables.sort();
        for (name, value) in variables {
            let message = match KEYS.iter().find(|key| key.variable() == name) {
                Some(key) => (key.set)(&mut self.config, Raw::Env(&value)).err(),
                None => unknown_variable(&name),
            };
            self.mistakes.extend(message.map(|message| Mistake { place: Place::Variable(name), message }));
        }
    }

    /// What single values can't tell.
    fn check_whole(&mut self) {
        let (high, low) =
            (self.config.runtime.image_gc_high_percent, self.config.runtime.image_gc_low_percent);
        if low.0 > high.0 {
            self.warnings.push(format!(
                "[runtime] image_gc_low_percent: {} is above image_gc_high_percent; {} is used for both",
                low.0, high.0
            ));
        }
        if self.config.consensus.algorithm == Algorithm::Pbft {
            self.warnings.push(
                "[consensus] algorithm: \"pbft\" names the same family of engines; \"tendermint\" is what runs".into(),
            );
        }
    }
}

/// A file being read, to turn offsets into places.
struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    fn mistake(&self, offset: usize, message: String) -> Mistake {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Mistake { place: Place::File { path: self.path.to_owned(), line, column }, message }
    }
}

fn unknown_table(name: &str) -> String {
    if let Some(key) = KEYS.iter().find(|key| key.name == name) {
        return format!("`{name}` stands outside of a table: it belongs into [{}]", key.table);
    }
    match closest(name, TABLES.iter().copied()) {
        Some(close) => format!("unknown table [{name}]: did you mean [{close}]?"),
        None => format!("unknown table [{name}]: the tables are {}", TABLES.join(", ")),
    }
}

fn unknown_key(table: &str, name: &str) -> String {
    if let Some(close) = closest(name, names_in(table)) {
        return format!("unknown key `{name}` in [{table}]: did you mean `{close}`?");
    }
    match KEYS.iter().find(|key| key.name == name) {
        Some(elsewhere) => {
            format!("unknown key `{name}` in [{table}]: it belongs into [{}]", elsewhere.table)
        }
        None => {
            let names = names_in(table).collect::<Vec<_>>().join(", ");
            format!("unknown key `{name}` in [{table}]: its keys are {names}")
        }
    }
}

/// A variable that begins like those of a table and names no key of it. Others belong to flags, or to nobody.
fn unknown_variable(name: &str) -> Option<String> {
    let table = TABLES.iter().find(|table| name.starts_with(&variable_prefix(table)))?;
    let rest = name[variable_prefix(table).len()..].to_ascii_lowercase();
    Some(unknown_key(table, &rest))
}

#[cfg(test)]
mod tests;
