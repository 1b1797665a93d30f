//! Every help text, frozen: a change to the command line shows up in review as text.

use crate::{
    program::{finish, hypercore},
    run,
};

/// Every command that has a help text.
const COMMANDS: &[&[&str]] = &[
    &[],
    &["up"],
    &["down"],
    &["run"],
    &["ps"],
    &["inspect"],
    &["stop"],
    &["kill"],
    &["rm"],
    &["logs"],
    &["exec"],
    &["attach"],
    &["wait"],
    &["image"],
    &["image", "pull"],
    &["image", "ls"],
    &["image", "rm"],
    &["image", "import"],
    &["image", "prune"],
    &["image", "verify"],
    &["image", "login"],
    &["image", "logout"],
    &["token"],
    &["token", "create"],
    &["token", "ls"],
    &["token", "revoke"],
    &["volume"],
    &["volume", "create"],
    &["volume", "ls"],
    &["volume", "inspect"],
    &["volume", "rm"],
    &["cp"],
    &["stats"],
    &["port"],
    &["events"],
    &["pause"],
    &["resume"],
    &["snapshot"],
    &["restore"],
    &["fork"],
    &["snapshots"],
    &["snapshots", "ls"],
    &["snapshots", "rm"],
    &["node"],
    &["node", "ls"],
    &["node", "inspect"],
    &["cluster"],
    &["cluster", "spawn"],
    &["cluster", "stop"],
    &["cluster", "list"],
    &["cluster", "logs"],
    &["cluster", "attach"],
    &["cluster", "metrics"],
    &["config"],
    &["config", "check"],
    &["config", "show"],
    &["doctor"],
    &["completion"],
    &["version"],
];

#[test]
fn every_command_explains_itself() {
    for command in COMMANDS {
        let ended = run(command.iter().copied().chain(["--help"])).expect(0);
        let name = ["help", &command.join("-")].join("-");
        insta::with_settings!({ snapshot_path => "snapshots", prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(name.trim_end_matches('-'), ended.stdout);
        });
        assert_eq!(ended.stderr, "", "help that was asked for is data");
    }
}

#[test]
fn every_command_has_examples() {
    for command in COMMANDS {
        let ended = run(command.iter().copied().chain(["--help"])).expect(0);
        assert!(ended.stdout.contains("Examples:"), "{command:?}");
    }
}

#[test]
fn nothing_asked_is_a_mistake_with_the_help_on_stderr() {
    let ended = finish(hypercore().env_remove("HYPERCORE_CONFIG"), b"").expect(2);
    assert!(ended.stderr.contains("Usage: hypercore"), "{ended:?}");
    assert_eq!(ended.stdout, "");
}

#[test]
fn completion_scripts_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let ended = run(["completion", shell]).expect(0);
        assert!(ended.stdout.contains("inspect"), "{shell}");
    }
}
