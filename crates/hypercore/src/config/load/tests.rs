//! Files and environments, good and bad, and what is made of them.

use super::{super::schema::Key, *};

fn of_text(text: &str) -> Result<Config, Vec<String>> {
    of(text, &[])
}

fn of(text: &str, environment: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hypercore.toml");
    fs::write(&path, text).unwrap();
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    match load(Some(&path), environment) {
        Ok(loaded) => Ok(loaded.config),
        Err(ConfigError::Mistakes(mistakes)) => {
            let prefix = format!("{}:", path.display());
            Err(mistakes.iter().map(|m| m.to_string().replace(&prefix, "")).collect())
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn what_is_shown_reads_back_as_itself() {
    let config = Config::default();
    assert_eq!(of_text(&toml::to_string(&config).unwrap()).unwrap(), config);
}

#[test]
fn the_file_of_the_contract_is_the_defaults() {
    assert_eq!(of_text(include_str!("contract.toml")).unwrap(), Config::default());
}

/// The file that packages install, with every setting's `# ` taken away.
fn packaged_and_uncommented() -> String {
    let packaged = include_str!("../../../../../packaging/hypercore.toml");
    let is_setting = |line: &str| {
        let key = line.split_once(" = ").map_or("", |(key, _)| key);
        !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase() || b"_0123456789".contains(&byte))
    };
    let lines =
        packaged.lines().map(|line| line.strip_prefix("# ").filter(|rest| is_setting(rest)).unwrap_or(line));
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_packaged_file_changes_nothing_until_its_lines_are_uncommented() {
    let packaged = include_str!("../../../../../packaging/hypercore.toml");
    let as_installed = packaged.parse::<toml::Table>().unwrap();
    assert!(as_installed.values().all(|table| table.as_table().is_some_and(toml::Table::is_empty)));
    assert_eq!(of_text(packaged).unwrap(), Config::default());
    assert_eq!(of_text(&packaged_and_uncommented()).unwrap(), Config::default());
}

#[test]
fn the_packaged_file_has_every_key_in_its_table() {
    let uncommented = packaged_and_uncommented().parse::<toml::Table>().unwrap();
    let has = |key: &&Key| uncommented.get(key.table).and_then(|table| table.get(key.name)).is_some();
    let missing: Vec<_> = KEYS.iter().filter(|key| !has(key)).map(Key::variable).collect();
    assert_eq!(missing, [""; 0]);
}

#[test]
fn all_mistakes_are_reported_at_once_each_with_its_place() {
    let text = "[node]\ndata_dir = \"/x\"\nmax_connections = 0\n\n[loging]\nlevel = \"info\"\n\n[storage]\n  \
                backend = \"rocksdb\"\nfsync = \"yes\"\nlevel = \"debug\"\n";
    let environment =
        [("HYPERCORE_NODE_REGOIN", "x"), ("HYPERCORE_STORAGE_FSYNC", "maybe"), ("HYPERCORE_API", "")];
    assert_eq!(
        of(text, &environment).unwrap_err(),
        [
            "2:1: unknown key `data_dir` in [node]: did you mean `data_directory`?",
            "3:19: [node] max_connections: 0 is out of range: a whole number from 1 to 1000000",
            "5:2: unknown table [loging]: did you mean [logging]?",
            "9:13: [storage] backend: `rocksdb` is no backend of Hypercore: write \"redb\", which replaces it",
            "10:9: [storage] fsync: expected true or false, found a string",
            "11:1: unknown key `level` in [storage]: it belongs into [logging]",
            "HYPERCORE_NODE_REGOIN: unknown key `regoin` in [node]: did you mean `region`?",
            "HYPERCORE_STORAGE_FSYNC: expected true or false, found `maybe`",
        ]
    );
}

#[test]
fn broken_syntax_does_not_hide_the_other_mistakes() {
    let mistakes = of_text("[node]\nregion = \nlisten_adress = \"x\"\n[logging\n").unwrap_err();
    assert!(mistakes.iter().any(|m| m.starts_with("2:")), "{mistakes:?}");
    assert!(mistakes.iter().any(|m| m.contains("did you mean `listen_address`?")), "{mistakes:?}");
    assert!(mistakes.iter().any(|m| m.starts_with("4:")), "{mistakes:?}");
}

#[test]
fn a_key_outside_of_its_table_is_told_where_it_belongs() {
    assert_eq!(
        of_text("fsync = true\nnode = 1").unwrap_err(),
        [
            "1:1: `fsync` stands outside of a table: it belongs into [storage]",
            "2:1: `node` is a table: write [node] on a line of its own",
        ]
    );
}

#[test]
fn the_environment_overrides_the_file() {
    let config = of("[node]\nregion = \"a\"\n", &[("HYPERCORE_NODE_REGION", "b")]).unwrap();
    assert_eq!(config.node.region, "b");
}

#[test]
fn pbft_is_accepted_with_a_warning() {
    let variable = ("HYPERCORE_CONSENSUS_ALGORITHM".to_owned(), "pbft".to_owned());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("empty.toml");
    fs::write(&path, "").unwrap();
    let loaded = load(Some(&path), [variable].into_iter()).unwrap();
    assert_eq!(loaded.warnings.len(), 1);
    assert_eq!(loaded.path, Some(path));
}

#[test]
fn a_file_that_was_asked_for_must_exist() {
    let error = load(Some(Path::new("/nonexistent/x.toml")), std::iter::empty()).unwrap_err();
    assert!(error.to_string().starts_with("the configuration file /nonexistent/x.toml can't be read: "));
}
