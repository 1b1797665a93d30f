//! Starting: exit codes, failures before and after the start.

use hypercore_fixtures::skip_without_root;
use hypercore_shim::report::FailureCode;

use super::Machine;

#[test]
fn a_container_runs_and_its_exit_code_comes_back() {
    if skip_without_root("a_container_runs_and_its_exit_code_comes_back") {
        return;
    }
    let ended = Machine::shell("echo out; echo err >&2; exit 7").run();
    assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (7, "out\n", "err\n"));
}

#[test]
fn a_program_that_is_missing_is_told_apart() {
    if skip_without_root("a_program_that_is_missing_is_told_apart") {
        return;
    }
    let mut machine = Machine::shell("");
    machine.spec.command = vec!["no-such-program".into()];
    let failure = machine.create().err().unwrap();
    assert_eq!(failure.code, FailureCode::CommandNotFound, "{failure}");
    assert!(failure.message.contains("no-such-program"), "{failure}");
    assert!(!machine.root().join(machine.id.to_string()).exists());
}
