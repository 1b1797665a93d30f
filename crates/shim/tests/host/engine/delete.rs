//! Deleting: from any state, and nothing of the container is left.

use std::{fs, time::Duration};

use hypercore_fixtures::{skip_without_root, wait_until};

use super::Machine;

#[test]
fn a_running_container_is_killed_with_all_its_processes() {
    if skip_without_root("a_running_container_is_killed_with_all_its_processes") {
        return;
    }
    // Processes that multiply while they are killed.
    let mut machine =
        Machine::shell("f() { while :; do sleep 0.01 & wait $!; done; }; f & f & f & echo ready; f");
    machine.spec.pids_max = 64;
    let started = machine.create().unwrap();
    wait_until(Duration::from_secs(10), || started.stdout().contains("ready").then_some(())).unwrap();
    machine.delete();
    assert_eq!(started.wait().code, 137);
    machine.assert_nothing_left();
    machine.delete();
}

#[test]
fn a_container_that_was_never_made_is_deleted_too() {
    if skip_without_root("a_container_that_was_never_made_is_deleted_too") {
        return;
    }
    let machine = Machine::shell("true");
    machine.delete();
    // As a crash right after the first step would leave it.
    fs::create_dir_all(machine.root().join(machine.id.to_string())).unwrap();
    machine.delete();
    machine.assert_nothing_left();
}

#[test]
fn a_deleted_container_can_be_made_again_and_has_its_files() {
    if skip_without_root("a_deleted_container_can_be_made_again_and_has_its_files") {
        return;
    }
    let machine = Machine::shell("cat /tmp/x; echo again >/tmp/x");
    assert_eq!(machine.run().stdout, "");
    assert_eq!(machine.run().stdout, "again\n");
}

#[test]
fn no_process_of_the_engine_is_left_unreaped() {
    if skip_without_root("no_process_of_the_engine_is_left_unreaped") {
        return;
    }
    let machine = Machine::shell("sleep 100");
    let started = machine.create().unwrap();
    let _ = machine.exec(&["no-such-program"]).err().unwrap();
    machine.exec(&["true"]).unwrap().wait();
    machine.delete();
    started.wait();
    let own = format!("\nPPid:\t{}\n", std::process::id());
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let is_engine = status.starts_with("Name:\tyouki") || status.starts_with("Name:\thypercore-engin");
        assert!(!(is_engine && status.contains(&own)), "{status}");
    }
}
