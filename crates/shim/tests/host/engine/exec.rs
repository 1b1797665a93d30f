//! Later processes: their failures, and containers that can't take one.

use std::{fs, time::Duration};

use hypercore_fixtures::{skip_without_root, wait_until};
use hypercore_shim::report::FailureCode;

use super::{Machine, machine::request};

#[test]
fn failures_are_told_apart_and_leave_nothing_behind() {
    if skip_without_root("failures_are_told_apart_and_leave_nothing_behind") {
        return;
    }
    let machine = Machine::shell("sleep 100");
    let started = machine.create().unwrap();
    let before = machine.state_files();
    for (argv, code) in [
        (&["no-such-program"][..], FailureCode::CommandNotFound),
        (&["/etc/passwd"], FailureCode::NotExecutable),
        (&[""], FailureCode::CommandNotFound),
    ] {
        assert_eq!(machine.exec(argv).err().unwrap().code, code, "{argv:?}");
    }
    let mut elsewhere = request(&["true"]);
    elsewhere.workdir = Some("/no/such/directory".into());
    let failure = machine.exec_request(&elsewhere, None).err().unwrap();
    assert_eq!(failure.code, FailureCode::Engine, "{failure}");
    assert_eq!(machine.exec(&["sh", "-c", "exit 5"]).unwrap().wait().code, 5);
    assert_eq!(machine.state_files(), before);
    machine.delete();
    started.wait();
    machine.assert_nothing_left();
}

#[test]
fn a_container_that_ended_takes_no_more() {
    if skip_without_root("a_container_that_ended_takes_no_more") {
        return;
    }
    let machine = Machine::shell("true");
    assert_eq!(machine.exec(&["true"]).err().unwrap().code, FailureCode::NotRunning);
    machine.create().unwrap().wait();
    assert_eq!(machine.exec(&["true"]).err().unwrap().code, FailureCode::NotRunning);
    machine.delete();
    assert_eq!(machine.exec(&["true"]).err().unwrap().code, FailureCode::NotRunning);
}

#[test]
fn a_paused_container_is_refused_and_not_waited_for() {
    if skip_without_root("a_paused_container_is_refused_and_not_waited_for") {
        return;
    }
    let machine = Machine::shell("sleep 100");
    let started = machine.create().unwrap();
    let path = machine.cgroups.path_of(machine.id);
    let freezers = [
        (format!("/sys/fs/cgroup/freezer{path}/freezer.state"), "FROZEN", "THAWED"),
        (format!("/sys/fs/cgroup{path}/cgroup.freeze"), "1", "0"),
    ];
    let (file, frozen, thawed) = freezers.iter().find(|(file, ..)| fs::exists(file).unwrap()).unwrap();
    fs::write(file, frozen).unwrap();
    wait_until(Duration::from_secs(5), || {
        (fs::read_to_string(file).unwrap().trim() == *frozen).then_some(())
    })
    .unwrap();
    assert_eq!(machine.exec(&["true"]).err().unwrap().code, FailureCode::Frozen);
    fs::write(file, thawed).unwrap();
    assert_eq!(machine.exec(&["true"]).unwrap().wait().code, 0);
    // Paused again, it can still be deleted.
    fs::write(file, frozen).unwrap();
    machine.delete();
    assert_eq!(started.wait().code, 137);
    machine.assert_nothing_left();
}

#[test]
fn accounts_are_read_inside_the_container_only() {
    if skip_without_root("accounts_are_read_inside_the_container_only") {
        return;
    }
    let outside = tempfile::NamedTempFile::new().unwrap();
    fs::write(outside.path(), "intruder:x:0:0::/:/bin/sh\n").unwrap();
    let outside = outside.path().display();
    for (script, code) in [
        (format!("ln -sf {outside} /etc/passwd"), FailureCode::NoSuchUser),
        (format!("ln -sf ../../../../../../../..{outside} /etc/passwd"), FailureCode::NoSuchUser),
        ("rm /etc/passwd; mkfifo /etc/passwd".to_owned(), FailureCode::Engine),
        ("rm /etc/passwd; ln -s /dev/zero /etc/passwd".to_owned(), FailureCode::Engine),
        ("yes | head -c 2m >/etc/passwd".to_owned(), FailureCode::Engine),
    ] {
        let machine = Machine::shell(&format!("{script}; echo ready; sleep 100"));
        let started = machine.create().unwrap();
        wait_until(Duration::from_secs(10), || started.stdout().contains("ready").then_some(())).unwrap();
        let mut ask = request(&["id"]);
        ask.user = Some("intruder".into());
        let failure = machine.exec_request(&ask, None).err().unwrap();
        assert_eq!(failure.code, code, "{script}: {failure}");
        machine.delete();
        started.wait();
    }
}
