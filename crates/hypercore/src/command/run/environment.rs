//! The environment of a workload: files first, flags over them, in the order given. `KEY` alone takes our own value,
//! and is left out when we have none, as docker does.

use std::{collections::BTreeMap, fs, path::PathBuf};

/// Reads files and flags; whatever can't be read becomes a mistake.
pub(in crate::command) fn read(
    files: &[PathBuf],
    flags: &[String],
    ours: impl Fn(&str) -> Option<String>,
    mistakes: &mut Vec<String>,
) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    for file in files {
        match fs::read_to_string(file) {
            Ok(text) => {
                for (number, line) in text.lines().enumerate() {
                    let place = format!("{}:{}: ", file.display(), number + 1);
                    let line = line.trim_start();
                    if !line.is_empty() && !line.starts_with('#') {
                        add(line, &place, &ours, &mut env, mistakes);
                    }
                }
            }
            Err(error) => mistakes.push(format!("the file {} can't be read: {error}", file.display())),
        }
    }
    for flag in flags {
        add(flag, "", &ours, &mut env, mistakes);
    }
    env
}

fn add(
    text: &str,
    place: &str,
    ours: &impl Fn(&str) -> Option<String>,
    env: &mut BTreeMap<String, String>,
    mistakes: &mut Vec<String>,
) {
    let (key, value) = match text.split_once('=') {
        Some((key, value)) => (key, Some(value.to_owned())),
        None => (text, ours(text)),
    };
    if key.is_empty() || key.contains(char::is_whitespace) {
        mistakes.push(format!("{place}`{text}` is not KEY=VALUE"));
    } else if let Some(value) = value {
        env.insert(key.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(key: &str) -> Option<String> {
        (key == "HOME").then(|| "/root".to_owned())
    }

    #[test]
    fn flags_replace_files_and_bare_keys_take_ours() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("env");
        fs::write(&file, "# comment\n\nA=1\n  B=x # kept\nHOME\nNONE\n").unwrap();
        let mut mistakes = Vec::new();
        let env = read(&[file], &["A=2".into()], ours, &mut mistakes);
        assert_eq!(mistakes, Vec::<String>::new());
        let pairs: Vec<_> = env.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(pairs, ["A=2", "B=x # kept", "HOME=/root"]);
    }

    #[test]
    fn every_mistake_has_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("env");
        fs::write(&file, "A=1\nnot a key=1\n").unwrap();
        let mut mistakes = Vec::new();
        read(&[file.clone(), "/nonexistent".into()], &["=x".into()], ours, &mut mistakes);
        assert_eq!(mistakes.len(), 3);
        assert_eq!(mistakes[0], format!("{}:2: `not a key=1` is not KEY=VALUE", file.display()));
    }
}
