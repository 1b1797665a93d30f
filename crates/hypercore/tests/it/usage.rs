//! Wrong command lines, and an agent that isn't there.

use crate::{
    fake::{Fake, Script},
    program::{finish, hypercore},
    run,
};

#[test]
fn a_wrong_command_line_is_exit_2_with_a_hint() {
    for (arguments, part) in [
        (&["frobnicate"][..], "unrecognized subcommand 'frobnicate'"),
        (&["rm"], "<WORKLOAD>"),
        (&["run", "--cpu", "many", "web"], "not a number of CPUs"),
        (&["run", "--memory", "1", "web"], "out of range"),
        (&["run", "-p", "0", "web"], "not a port mapping"),
        (&["run", "Web"], "lower-case"),
        (&["run", "--name", "a_b", "web"], "not a name"),
        (&["kill", "-s", "FOO", "web"], "write a name such as TERM"),
        (&["logs", "--tail", "few", "web"], "number or `all`"),
        (&["ps", "--api", "ftp://x"], "not an API address"),
    ] {
        let ended = run(arguments).expect(2);
        let lines: Vec<_> = ended.stderr.lines().collect();
        assert_eq!(lines.len(), 2, "{ended:?}");
        assert!(lines[0].starts_with("error: ") && lines[0].contains(part), "{part}: {ended:?}");
        assert!(lines[1].starts_with("hint: "), "{ended:?}");
        assert_eq!(ended.stdout, "");
    }
}

#[test]
fn the_usage_is_the_same_whatever_the_environment_says() {
    let ended = finish(hypercore().arg("rm").env("HYPERCORE_API", "unix:/nonexistent"), b"").expect(2);
    assert!(ended.stderr.ends_with("hint: usage: hypercore rm [OPTIONS] <WORKLOAD>...\n"), "{ended:?}");
}

#[test]
fn what_was_typed_and_what_the_agent_says_can_not_steer_the_terminal() {
    let fake = Fake::start(Script::default());
    let ended = fake.run(&["inspect", "a\x1b[31m\rb"]).expect(3);
    assert!(ended.stderr.contains(r"`a\u{1b}[31m\rb`"), "{ended:?}");
    assert!(!ended.stderr.contains(['\x1b', '\r']), "{ended:?}");
}

#[test]
fn with_json_even_a_wrong_command_line_is_an_object() {
    for arguments in [["--json", "rm"], ["-ojson", "rm"]] {
        let ended = run(arguments).expect(2);
        let told: serde_json::Value = serde_json::from_str(&ended.stderr).unwrap();
        assert_eq!((&told["error"], &told["code"]), (&"usage".into(), &"usage".into()));
    }
}

#[test]
fn without_an_agent_the_hint_says_how_to_start_one() {
    let api = "unix:/nonexistent/api.sock";
    for (arguments, code) in [
        (&["ps"][..], 5),
        (&["stop", "web"], 5),
        (&["image", "ls"], 5),
        (&["run", "-d", "web"], 5),
        (&["run", "web"], 125),
        (&["exec", "web", "ls"], 125),
        (&["wait", "web"], 125),
    ] {
        let ended = finish(hypercore().args(arguments).env("HYPERCORE_API", api), b"").expect(code);
        assert_eq!(
            ended.stderr,
            format!(
                "error: no agent answers at {api}\nhint: start one with `hypercore up`, or say where it is with --api\n"
            )
        );
    }
}

#[test]
fn errors_for_programs_have_four_fields_in_order() {
    let ended = run(["ps", "--json", "--api", "unix:/nonexistent"]).expect(5);
    assert_eq!(
        ended.stderr,
        "{\"error\":\"unavailable\",\"message\":\"no agent answers at unix:/nonexistent\",\
         \"code\":\"agent_unreachable\",\"hint\":\"start one with `hypercore up`, or say where it is with --api\"}\n"
    );
}

#[test]
fn the_socket_is_in_the_runtime_directory_of_the_configuration() {
    let ended =
        finish(hypercore().arg("ps").env("HYPERCORE_NODE_RUNTIME_DIRECTORY", "/nonexistent/run"), b"");
    assert!(ended.expect(5).stderr.contains("unix:/nonexistent/run/api.sock"));
}

#[test]
fn the_token_goes_with_every_call() {
    let fake = Fake::start(Script::default());
    let ended =
        finish(fake.hypercore().args(["version", "--json"]).env("HYPERCORE_TOKEN", "s3cret"), b"").expect(0);
    assert_eq!(ended.json()["agent"]["version"], "9.9.9");
    assert_eq!(fake.calls(), ["info Bearer s3cret"]);
}

#[test]
fn version_needs_no_agent() {
    let ended = run(["version", "--api", "unix:/nonexistent"]).expect(0);
    assert!(ended.stdout.starts_with(concat!("hypercore ", env!("CARGO_PKG_VERSION"))), "{ended:?}");
}

#[test]
fn the_agent_may_be_elsewhere_and_v_says_where() {
    let fake = Fake::start(Script::default());
    let api = format!("http://{}", fake.address());
    let ended = run(["ps", "-q", "-v", "--api", &api]).expect(0);
    assert_eq!(ended.stderr, format!("configured by /dev/null\nasking the agent at {api}\n"));
}
