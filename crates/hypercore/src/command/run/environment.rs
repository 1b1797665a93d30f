//! The environment of a workload: files first, flags over them, in the order given. `KEY` alone takes our own value,
//! and is left out when we have none, as docker does. Quotes mean nothing, and `export` is no part of a key.
//! It refuses files that are not text, and larger than any environment.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Longest file that is read, in bytes: more than the kernel lets a program have.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Reads files and flags; whatever can't be read becomes a mistake.
pub(in crate::command) fn read(
    files: &[PathBuf],
    flags: &[String],
    ours: impl Fn(&str) -> Option<String>,
    mistakes: &mut Vec<String>,
) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    for file in files {
        match read_text(file) {
            Ok(text) => {
                // Editors of some systems begin a file with a mark, and end lines with two characters.
                for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
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

fn read_text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it is longer than {FILE_BYTES_MAX} bytes")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..valid].iter().filter(|&&byte| byte == b'\n').count() + 1;
        io::Error::other(format!("line {line} is not UTF-8"))
    })
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
    use std::fs;

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

    fn of_file(bytes: &[u8]) -> (Vec<String>, Vec<String>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        let mut mistakes = Vec::new();
        let env = read(&[file.path().to_owned()], &[], ours, &mut mistakes);
        (env.iter().map(|(key, value)| format!("{key}={value}")).collect(), mistakes)
    }

    #[test]
    fn files_are_read_as_docker_reads_them() {
        let none: Vec<String> = Vec::new();
        let read_to = |bytes: &[u8], expected: &[&str]| {
            let expected = expected.iter().map(|&text| text.to_owned()).collect();
            assert_eq!(of_file(bytes), (expected, none.clone()), "{}", String::from_utf8_lossy(bytes));
        };
        read_to(b"\xef\xbb\xbfA=1\r\nB=2\r\n\r\n# x\r\n", &["A=1", "B=2"]);
        read_to(b"A=\"x y\"\nB='z'\nC=$HOME\nD=a\\nb", &["A=\"x y\"", "B='z'", "C=$HOME", "D=a\\nb"]);
        read_to(b"A=1\nA=2\nA=", &["A="]);
        read_to(b"A= kept \nB==\nC=a=b", &["A= kept ", "B==", "C=a=b"]);
        read_to("K=gr\u{fc}n".as_bytes(), &["K=gr\u{fc}n"]);
        read_to(b"", &[]);
        let long = format!("A={}", "x".repeat(100_000));
        read_to(long.as_bytes(), &[&long]);
    }

    #[test]
    fn files_that_are_none_are_refused() {
        for (bytes, complaint) in [
            (&b"export A=1"[..], "`export A=1` is not KEY=VALUE"),
            (b"=1", "`=1` is not KEY=VALUE"),
            (b"A =1", "`A =1` is not KEY=VALUE"),
            (b"A=1\nB=\xff\n", "line 2 is not UTF-8"),
            (b"\xff\xfeA\0=\0", "line 1 is not UTF-8"),
        ] {
            let (_, mistakes) = of_file(bytes);
            assert!(mistakes.len() == 1 && mistakes[0].contains(complaint), "{complaint}: {mistakes:?}");
        }
        let (env, mistakes) = of_file(&vec![b'A'; FILE_BYTES_MAX as usize + 1]);
        assert!(env.is_empty() && mistakes[0].contains("longer"), "{mistakes:?}");
        let mut mistakes = Vec::new();
        read(&["/".into()], &[], ours, &mut mistakes);
        assert!(mistakes[0].contains("can't be read"), "{mistakes:?}");
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
