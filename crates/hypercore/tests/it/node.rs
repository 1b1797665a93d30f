//! `up` when it is refused, and `doctor`: what can be said of a node without starting one.

use std::os::unix::process::CommandExt as _;

use crate::{
    fake::{Fake, Script},
    program::{finish, hypercore},
    run,
};

/// `nobody`, by the convention of every Linux distribution.
const NOBODY: u32 = 65534;

#[test]
fn up_is_refused_to_all_but_root() {
    let scratch = tempfile::tempdir().unwrap();
    // The program itself may be where only its builder can go.
    let program = scratch.path().join("hypercore");
    std::fs::copy(env!("CARGO_BIN_EXE_hypercore"), &program).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(scratch.path(), open).unwrap();
    let mut command = crate::program::isolated(std::process::Command::new(program));
    command.arg("up").current_dir("/");
    if nix::unistd::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let ended = finish(&mut command, b"").expect(4);
    assert_eq!(
        ended.stderr,
        "error: hypercore must run as root to make namespaces, mounts and cgroups\n\
         hint: try again with `sudo hypercore up`\n"
    );
}

#[test]
fn up_refuses_settings_that_can_not_work() {
    for (arguments, code, part) in [
        (["--http-bind-addr", "8001"], 2, "is not an address"),
        (["--cidr", "10.0.0.1/16"], 2, "did you mean 10.0.0.0/16?"),
        (["--bridge", "a-very-long-bridge-name"], 2, "is not a bridge name"),
        (["--storage", "rocksdb"], 2, "\"redb\""),
    ] {
        let ended = run(["up"].into_iter().chain(arguments)).expect(code);
        assert!(ended.stderr.starts_with("error: ") && ended.stderr.contains(part), "{ended:?}");
    }
}

#[test]
fn doctor_checks_everything_in_the_same_order_for_people_and_programs() {
    let fake = Fake::start(Script::default());
    let ended = fake.run(&["doctor", "--json"]);
    let findings = ended.json();
    let checks: Vec<_> =
        findings.as_array().unwrap().iter().map(|finding| finding["check"].as_str().unwrap()).collect();
    for check in
        ["config", "root", "overlay", "namespaces", "cgroups", "nft", "port", "data directory", "agent"]
    {
        assert!(checks.contains(&check), "{check} in {checks:?}");
    }
    let agent = findings.as_array().unwrap().last().unwrap();
    assert_eq!((&agent["check"], &agent["status"]), (&"agent".into(), &"ok".into()));
    let fails = findings.as_array().unwrap().iter().any(|finding| finding["status"] == "fail");
    assert_eq!(ended.code, Some(i32::from(fails)));
    let lines = fake.run(&["doctor"]).stdout;
    let shown: Vec<_> = lines.lines().filter(|line| !line.trim_start().starts_with("hint:")).collect();
    assert_eq!(shown.len(), checks.len(), "{lines}");
}

#[test]
fn doctor_works_with_a_broken_configuration_and_without_an_agent() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hypercore.toml");
    std::fs::write(&file, "[node]\ndata_dir = \"/x\"\n").unwrap();
    let mut command = hypercore();
    command.args(["doctor", "--json", "--config"]).arg(&file).env("HYPERCORE_API", "unix:/nonexistent");
    let findings = finish(&mut command, b"").expect(1).json();
    assert_eq!(findings[0]["status"], "fail");
    assert!(
        findings[0]["message"].as_str().unwrap().contains("did you mean `data_directory`?"),
        "{findings}"
    );
    let agent = findings.as_array().unwrap().last().unwrap();
    assert_eq!((&agent["status"], &agent["hint"].is_string()), (&"warn".into(), &true));
}
