//! `hypercore config`, and how a broken file shows up elsewhere.

use crate::{
    program::{finish, hypercore},
    run,
};

#[test]
fn check_finds_every_mistake_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hypercore.toml");
    std::fs::write(&file, "[node]\ndata_dir = \"/x\"\n[storage]\nbackend = \"sled\"\n").unwrap();
    let path = file.to_str().unwrap();
    let ended = run(["config", "check", path]).expect(2);
    assert_eq!(
        ended.stderr,
        format!(
            "error: the configuration has 2 mistakes:\n  \
             {path}:2:1: unknown key `data_dir` in [node]: did you mean `data_directory`?\n  \
             {path}:4:11: [storage] backend: `sled` is no backend of Hypercore: write \"redb\", which replaces it\n\
             hint: `hypercore config show` prints every key with its value\n"
        )
    );
    let ended = run(["ps", "--config", path]).expect(2);
    assert!(ended.stderr.contains("has 2 mistakes"), "{ended:?}");
}

#[test]
fn check_says_that_a_file_is_good_and_warns_where_it_should() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hypercore.toml");
    std::fs::write(&file, "[consensus]\nalgorithm = \"pbft\"\n").unwrap();
    let ended = run(["config", "check", file.to_str().unwrap()]).expect(0);
    assert!(ended.stderr.starts_with("warning: [consensus] algorithm"), "{ended:?}");
    assert!(ended.stderr.ends_with("hypercore.toml: no mistakes\n"), "{ended:?}");
}

#[test]
fn a_file_that_is_not_there_is_exit_2() {
    let ended = run(["config", "check", "/nonexistent.toml"]).expect(2);
    assert!(
        ended.stderr.starts_with("error: the configuration file /nonexistent.toml can't be read"),
        "{ended:?}"
    );
}

#[test]
fn show_prints_what_is_in_effect_in_every_format() {
    let show = |format: &str| {
        let mut command = hypercore();
        command.args(["config", "show", "-o", format]).env("HYPERCORE_NODE_REGION", "eu-1");
        finish(&mut command, b"").expect(0)
    };
    assert!(show("table").stdout.contains("region = \"eu-1\"\n"));
    assert_eq!(show("json").json()["node"]["region"], "eu-1");
    assert!(show("yaml").stdout.contains("region: eu-1\n"));
}

#[test]
fn what_show_prints_is_a_valid_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hypercore.toml");
    std::fs::write(&file, run(["config", "show"]).expect(0).stdout).unwrap();
    run(["config", "check", file.to_str().unwrap()]).expect(0);
}
