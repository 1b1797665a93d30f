//! Machines of Firecracker and Cloud Hypervisor, with fakes in their place that take requests in no order but the
//! documented one: from `hypercore-vmm`'s command line to what a guest writes, and back. It refuses to show that they
//! boot: that needs hardware, and is pending.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod network;
mod node;
mod order;
mod probe;
mod snapshots;

use std::{fs, os::unix::fs::MetadataExt as _};

use hypercore_fixtures::{skip_without_root, wait_until};
use hypercore_model::machine::Monitor;
use nix::sys::signal::Signal;

use self::node::{MONITOR_ID, Node};

/// Those that are faked.
const MONITORS: [Monitor; 2] = [Monitor::Firecracker, Monitor::CloudHypervisor];
/// A machine that a test needs a moment of.
const SOON: std::time::Duration = std::time::Duration::from_secs(30);

#[test]
fn a_machine_runs_from_its_first_word_to_its_exit() {
    if skip_without_root("a_machine_runs_from_its_first_word_to_its_exit") {
        return;
    }
    for monitor in MONITORS {
        // Its guest doesn't listen at once.
        let node = Node::new(monitor, "guest-boots");
        for (id, argv, ended) in
            [("one", &["echo", "hello", "there"][..], (0, "hello there\n")), ("two", &["exit", "7"], (7, ""))]
        {
            let machine = node.create(id, &node.spec(id, argv));
            assert!(machine.report.contains("pid"), "{monitor}: {}", machine.report);
            let (code, said) = machine.wait();
            assert_eq!((code, said.as_str()), ended, "{monitor}");
            node.delete(id);
        }
    }
}

#[test]
fn further_processes_and_signals_reach_the_guest() {
    if skip_without_root("further_processes_and_signals_reach_the_guest") {
        return;
    }
    for monitor in MONITORS {
        let node = Node::new(monitor, "");
        let machine = node.create("one", &node.spec("one", &["sleep"]));
        assert!(machine.report.contains("pid"), "{}", machine.report);
        assert_eq!(machine.exec(&["echo", "inside"]).wait(), (0, "inside\n".to_owned()));
        let mut copy = machine.exec(&["cat"]);
        copy.write("to and fro");
        assert_eq!(copy.wait(), (0, "to and fro".to_owned()));
        assert!(machine.exec(&["nothing"]).report.contains("nothing"));
        machine.signal(Signal::SIGTERM);
        assert_eq!(machine.wait(), (128 + Signal::SIGTERM as i32, String::new()));
        node.delete("one");
    }
}

#[test]
fn firecracker_is_somebody_else_in_a_place_of_its_own() {
    if skip_without_root("firecracker_is_somebody_else_in_a_place_of_its_own") {
        return;
    }
    let node = Node::new(Monitor::Firecracker, "");
    let machine = node.create("one", &node.spec("one", &["sleep"]));
    let process = format!("/proc/{}", machine.monitor());
    let status = fs::read_to_string(format!("{process}/status")).unwrap();
    let ids = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert_eq!(ids("Uid:"), format!("Uid:\t{MONITOR_ID}\t{MONITOR_ID}\t{MONITOR_ID}\t{MONITOR_ID}"));
    assert!(ids("Gid:").contains(&MONITOR_ID.to_string()));
    assert_eq!(ids("Groups:").trim_end(), "Groups:");
    let root = fs::read_link(format!("{process}/root")).unwrap();
    assert_eq!(root, node.path("workload-one/jail/firecracker/one/root"));
    let owner = |name: &str| fs::metadata(node.path(name)).unwrap().uid();
    assert_eq!((owner("workload-one/writable.ext4"), owner("image.ext4")), (MONITOR_ID, 0));
    drop(machine);
    node.delete("one");
}

#[test]
fn a_monitor_doesnt_outlive_its_stand_in_for_long() {
    if skip_without_root("a_monitor_doesnt_outlive_its_stand_in_for_long") {
        return;
    }
    for monitor in MONITORS {
        let node = Node::new(monitor, "");
        let machine = node.create("one", &node.spec("one", &["sleep"]));
        machine.monitor();
        machine.signal(Signal::SIGKILL);
        assert_eq!(machine.wait().0, 137);
        // As the shim does then: who became another user no longer ends with its parent by itself.
        node.delete("one");
    }
}

#[test]
fn a_monitor_that_ends_takes_its_machine_along() {
    if skip_without_root("a_monitor_that_ends_takes_its_machine_along") {
        return;
    }
    for monitor in MONITORS {
        let node = Node::new(monitor, "");
        let machine = node.create("one", &node.spec("one", &["sleep"]));
        let pid = nix::unistd::Pid::from_raw(machine.monitor());
        nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
        assert_eq!(machine.wait().0, 137);
        wait_until(SOON, || node.processes("one").is_empty().then_some(())).unwrap();
        node.delete("one");
    }
}

#[test]
fn what_goes_wrong_is_said_by_name() {
    if skip_without_root("what_goes_wrong_is_said_by_name") {
        return;
    }
    for monitor in MONITORS {
        for (mood, words) in [
            ("old", monitor.supported()),
            ("dead", "/dev/kvm: no such device"),
            ("silent", "in time"),
            ("guest-refuses", "the guest did not answer within"),
            ("guest-is-garbage", "the guest did not answer within"),
            ("guest-is-silent", "the guest did not answer within"),
        ] {
            let node = Node::new(monitor, mood);
            let mut spec = node.spec("one", &["sleep"]);
            spec.boot_time_max_ms = 1500;
            let machine = node.create("one", &spec);
            assert!(machine.report.contains(words), "{monitor}, {mood}: {}", machine.report);
            assert_eq!(machine.wait().0, 1);
            assert_eq!(node.processes("one"), Vec::<i32>::new());
            node.delete("one");
        }
    }
}

#[test]
fn a_kernel_that_is_not_there_is_named() {
    if skip_without_root("a_kernel_that_is_not_there_is_named") {
        return;
    }
    for monitor in MONITORS {
        let node = Node::new(monitor, "");
        let spec = node.spec("one", &["sleep"]);
        fs::remove_file(node.path("vmlinux")).unwrap();
        let machine = node.create("one", &spec);
        assert!(machine.report.contains("vmlinux"), "{}", machine.report);
        assert_eq!(machine.wait().0, 1);
        node.delete("one");
    }
}
