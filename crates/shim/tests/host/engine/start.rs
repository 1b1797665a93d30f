//! Starting: exit codes, what the program inherits, and failures before and after it is executed.

use std::{fs, os::unix::fs::PermissionsExt};

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
    assert_eq!(Machine::shell("kill -9 $$").run().code, 0, "the first process ignores its own SIGKILL");
    assert_eq!(Machine::shell("sh -c 'kill -9 $$'; exit $?").run().code, 137);
}

#[test]
fn a_container_inherits_its_streams_and_nothing_else() {
    if skip_without_root("a_container_inherits_its_streams_and_nothing_else") {
        return;
    }
    let mut machine = Machine::shell("");
    machine.spec.command = ["ls", "/proc/self/fd"].map(str::to_owned).to_vec();
    // The fourth is of the directory that ls reads.
    assert_eq!(machine.run().stdout, "0\n1\n2\n3\n");

    let mut machine = Machine::shell("");
    machine.spec.command = ["cat", "/proc/self/status"].map(str::to_owned).to_vec();
    let status = machine.run().stdout;
    for line in ["SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "{line}: {status}");
    }
}

#[test]
fn a_program_that_cannot_run_is_told_apart_and_leaves_nothing() {
    if skip_without_root("a_program_that_cannot_run_is_told_apart_and_leaves_nothing") {
        return;
    }
    for (command, code, hint) in [
        ("no-such-program", FailureCode::CommandNotFound, "no-such-program"),
        ("/bin/no-such-program", FailureCode::CommandNotFound, "/bin/no-such-program"),
        ("/etc/passwd", FailureCode::NotExecutable, "/etc/passwd"),
        ("/etc", FailureCode::NotExecutable, "/etc"),
        // These two pass every check; only execve knows.
        ("/opt/text", FailureCode::NotExecutable, "/opt/text"),
        ("/opt/orphan", FailureCode::CommandNotFound, "/opt/orphan"),
    ] {
        let mut machine = Machine::shell("");
        let opt = machine.layers[0].join("opt");
        fs::create_dir(&opt).unwrap();
        for (name, text) in [("text", "\u{1}\u{2}\u{3}"), ("orphan", "#!/no/such/interpreter\n")] {
            fs::write(opt.join(name), text).unwrap();
            fs::set_permissions(opt.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        machine.spec.command = vec![command.into()];
        let failure = machine.create().err().unwrap();
        assert_eq!(failure.code, code, "{command}: {failure}");
        assert!(failure.message.contains(hint), "{command}: {failure}");
        machine.assert_nothing_left();
    }
}

#[test]
fn an_id_in_use_is_refused_and_the_container_goes_on() {
    if skip_without_root("an_id_in_use_is_refused_and_the_container_goes_on") {
        return;
    }
    let machine = Machine::shell("read line </dev/zero");
    let started = machine.create().unwrap();
    let failure = machine.create().err().unwrap();
    assert!(failure.message.contains("exists already"), "{failure}");
    assert!(fs::exists(format!("/proc/{}/root/bin/busybox", started.pid)).unwrap());
    machine.delete();
    assert_eq!(started.wait().code, 137);
}

#[test]
fn a_broken_bundle_leaves_nothing() {
    if skip_without_root("a_broken_bundle_leaves_nothing") {
        return;
    }
    let machine = Machine::shell("true");
    machine.prepare().unwrap();
    let config = machine.bundle().join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    for (from, to) in [
        // A mount that can't be made, found out in the middle of the start.
        (r#""type":"mqueue""#, r#""type":"nosuchfs""#),
        // A limit that nobody enforces.
        (r#""pids":{"#, r#""hugepageLimits":[{"pageSize":"2MB","limit":1}],"pids":{"#),
        // A cgroup outside of the hierarchies.
        (r#""cgroupsPath":"/"#, r#""cgroupsPath":"/../"#),
        (r#"{"ociVersion""#, r#"{{"ociVersion""#),
    ] {
        let broken = text.replace(from, to);
        assert_ne!(broken, text, "{from}");
        fs::write(&config, broken).unwrap();
        let failure = machine.create_prepared(None).err().unwrap();
        assert_eq!(failure.code, FailureCode::Engine, "{to}: {failure}");
        machine.assert_nothing_left();
    }
}
