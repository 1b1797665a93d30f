//! A guest with nothing but kernel and initramfs, to see whether it answers: what the agent finds out about KVM with.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use hypercore_fixtures::{skip_without_root, wait_until};
use hypercore_model::machine::{MachineSpec, Monitor};

use super::{MONITORS, SOON, node::Node};

/// What came of it: why no guest answered, if none did.
fn probe(node: &Node, spec: &MachineSpec) -> Option<String> {
    let directory = node.path("machines/probe-1");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("machine.json"), serde_json::to_vec(spec).unwrap()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hypercore-vmm"));
    command.arg("probe").arg(&directory).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut running = command.spawn().unwrap();
    // Waiting would hang up.
    let _hold = running.stdin.take();
    let output = running.wait_with_output().unwrap();
    fs::remove_dir_all(&directory).unwrap();
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    told["fault"].as_str().map(str::to_owned)
}

fn bare(node: &Node) -> MachineSpec {
    MachineSpec { disks: Vec::new(), boot_time_max_ms: 20_000, ..node.spec("probe", &[]) }
}

/// No process has its root, its program or a file that it was told of in the node's directory.
#[track_caller]
fn assert_nothing_runs(node: &Node) {
    let scratch = node.path("").to_string_lossy().trim_end_matches('/').to_owned();
    let is_of_node = |process: &Path| {
        let link =
            |name: &str| fs::read_link(process.join(name)).is_ok_and(|path| path.starts_with(&scratch));
        link("root") || link("exe") || {
            let line = fs::read(process.join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&scratch)
        }
    };
    let runs = || {
        let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
        processes.filter(|path| is_of_node(path)).collect::<Vec<_>>()
    };
    let is_over = wait_until(SOON, || runs().is_empty().then_some(()));
    assert!(is_over.is_some(), "left: {:?}", runs());
}

#[test]
fn a_guest_that_answers_a_probe_is_ended_and_one_that_does_not_too() {
    if skip_without_root("a_guest_that_answers_a_probe_is_ended_and_one_that_does_not_too") {
        return;
    }
    for monitor in MONITORS {
        for (mood, time_max, told) in [
            ("guest-boots", Duration::from_secs(20), None),
            (
                "guest-is-silent",
                Duration::from_millis(1500),
                Some("the guest did not answer within 1.5 seconds"),
            ),
            ("dead", Duration::from_secs(20), Some("/dev/kvm: no such device")),
        ] {
            let node = Node::new(monitor, mood);
            let boot_time_max_ms = u64::try_from(time_max.as_millis()).unwrap();
            let fault = probe(&node, &MachineSpec { boot_time_max_ms, ..bare(&node) });
            let is_told = match (&fault, told) {
                (Some(fault), Some(told)) => fault.contains(told),
                (None, None) => true,
                _ => false,
            };
            assert!(is_told, "{monitor}, {mood}: {fault:?}");
            assert_nothing_runs(&node);
        }
    }
}

/// One that became another user doesn't end with its parent; who asked for it may be gone all the same.
#[test]
fn a_jailed_machine_ends_when_nobody_waits_for_its_probe() {
    if skip_without_root("a_jailed_machine_ends_when_nobody_waits_for_its_probe") {
        return;
    }
    let node = Node::new(Monitor::Firecracker, "guest-is-silent");
    let directory = node.path("machines/probe-1");
    fs::create_dir_all(&directory).unwrap();
    let spec = MachineSpec { boot_time_max_ms: 600_000, ..bare(&node) };
    fs::write(directory.join("machine.json"), serde_json::to_vec(&spec).unwrap()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hypercore-vmm"));
    command.arg("probe").arg(&directory).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut running = command.spawn().unwrap();
    let jail = node.path("workload-probe/jail/firecracker/probe-1/root");
    let begun = wait_until(SOON, || jail.join("vsock.sock").exists().then_some(()));
    drop(running.stdin.take());
    let output = running.wait_with_output().unwrap();
    assert!(begun.is_some(), "its machine was not begun: {output:?}");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("ended before its guest answered"), "{told}");
    assert_nothing_runs(&node);
}
