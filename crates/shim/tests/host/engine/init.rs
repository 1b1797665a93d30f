//! The init that stays before a program which asked for one.

use std::{fs, time::Duration};

use hypercore_fixtures::{skip_without_root, wait_until};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::Machine;

const DEADLINE: Duration = Duration::from_secs(10);

fn with_init(script: &str) -> Machine {
    let mut machine = Machine::shell(script);
    machine.spec.init = true;
    machine
}

#[test]
fn init_ends_as_the_program_ended() {
    if skip_without_root("init_ends_as_the_program_ended") {
        return;
    }
    let ended = with_init("echo $$; cat; exit 7").run();
    assert_eq!((ended.code, ended.stdout.as_str()), (7, "2\n"), "{ended:?}");
    assert_eq!(with_init("kill -9 $$").run().code, 137);
    // Real-time signals too.
    assert_eq!(with_init("kill -40 $$").run().code, 128 + 40);
    let mut machine = with_init("true");
    machine.spec.command = vec!["nowhere".into()];
    assert!(machine.create().err().unwrap().message.contains("nowhere"));
    machine.assert_nothing_left();
}

#[test]
fn init_passes_signals_on_and_takes_orphans() {
    if skip_without_root("init_passes_signals_on_and_takes_orphans") {
        return;
    }
    // Two orphans: one that has ended, and one whose parent ends before it.
    let machine = with_init(
        "trap 'echo term; exit 3' TERM; (sleep 0.1 &); (true &); echo ready; while :; do sleep 0.05; done",
    );
    let started = machine.create().unwrap();
    wait_until(DEADLINE, || (started.stdout() == "ready\n").then_some(())).unwrap();
    let zombies = "ps -o stat,comm | grep -c '^Z' || true";
    let no_zombie = wait_until(DEADLINE, || {
        let looked = machine.exec(&["sh", "-c", zombies]).unwrap().wait();
        (looked.stdout.trim() == "0").then_some(())
    });
    assert!(no_zombie.is_some());
    kill(Pid::from_raw(started.pid), Signal::SIGTERM).unwrap();
    let ended = started.wait();
    assert_eq!((ended.code, ended.stdout.as_str()), (3, "ready\nterm\n"));
    machine.delete();
}

#[test]
fn nothing_of_the_host_is_seen_through_init() {
    if skip_without_root("nothing_of_the_host_is_seen_through_init") {
        return;
    }
    let mut machine = with_init("exec sleep 100");
    // As far as a container can go.
    machine.spec.cap_add = ["ALL".parse().unwrap()].into();
    let started = machine.create().unwrap();
    let look = "tr '\\0' ' ' < /proc/1/cmdline; echo; cat /proc/1/comm; ls /proc/1/fd; \
                for fd in 0 1 2; do readlink /proc/1/fd/$fd; done";
    let looked = machine.exec(&["sh", "-c", look]).unwrap().wait();
    assert_eq!(looked.stdout.split_whitespace().next(), Some("hypercore-init"), "{looked:?}");
    let rest: Vec<_> = looked.stdout.split_whitespace().skip(1).collect();
    assert_eq!(rest, ["hypercore-init", "0", "1", "2", "/dev/null", "/dev/null", "/dev/null"], "{looked:?}");

    // The engine's own program, on the host, can be opened through it, and never written to (CVE-2019-5736).
    let engine = env!("CARGO_BIN_EXE_hypercore-engine");
    let before = fs::metadata(engine).unwrap().modified().unwrap();
    let write = "exec 3< /proc/1/exe; kill -9 2; echo x 2>&1 >/proc/self/fd/3";
    let written = machine.exec(&["sh", "-c", write]).unwrap().wait();
    assert!(written.code != 0, "{written:?}");
    let text = format!("{}{}", written.stdout, written.stderr);
    assert!(text.contains("Read-only") || written.code == 137, "{written:?}");
    assert_eq!(fs::metadata(engine).unwrap().modified().unwrap(), before);
    started.wait();
    machine.delete();
}
