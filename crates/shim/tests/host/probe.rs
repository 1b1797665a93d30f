//! `hypercore-vmm probe`: a guest that answers, and everything that doesn't, each with its end in time and nothing left.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use hypercore_fixtures::{guest_kernel, skip_without_machines, wait_until};
use hypercore_model::machine::{Accelerator, MachineSpec};
use hypercore_runtime::machine::{initramfs, kernel::Kernel, vmlinux};

const VMM: &str = env!("CARGO_BIN_EXE_hypercore-vmm");
/// A machine in software on a loaded host boots for half a minute.
const SOON: Duration = Duration::from_secs(60);

/// A machine with nothing in it, run by `program`.
fn machine(scratch: &Path, program: &Path, boot_time_max_ms: u64) -> serde_json::Value {
    let spec = serde_json::json!({
        "monitor": "qemu", "program": program, "accelerator": Accelerator::Tcg,
        "kernel": scratch.join("vmlinuz"), "initrd": scratch.join("initramfs"),
        "cpus": 1, "memory_mib": 128, "cpu_millis": null, "disks": [], "network": null, "hostname": "probe",
        "read_only": false, "mounts": [], "cgroup": "", "boot_time_max_ms": boot_time_max_ms,
        "process": {"argv": [], "env": [], "workdir": "/", "user": "", "tty": false, "stdin_open": false},
        "console_log": scratch.join("console.log"), "oom_events": scratch.join("oom"),
    });
    assert!(serde_json::from_value::<MachineSpec>(spec.clone()).is_ok(), "{spec}");
    spec
}

fn begin(scratch: &Path, machine: &serde_json::Value) -> Child {
    fs::write(scratch.join("machine.json"), machine.to_string()).unwrap();
    let mut command = Command::new(VMM);
    command.arg("probe").arg(scratch).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn probe(scratch: &Path, machine: &serde_json::Value) -> Output {
    let mut probe = begin(scratch, machine);
    // Waiting would hang up.
    let _hold = probe.stdin.take();
    probe.wait_with_output().unwrap()
}

/// What it told, if it came to a result.
#[track_caller]
fn fault(output: &Output) -> Option<String> {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    told["fault"].as_str().map(str::to_owned)
}

/// A program that writes its pid, and does nothing.
fn idle_program(scratch: &Path) -> PathBuf {
    let (program, pid) = (scratch.join("idle"), scratch.join("pid"));
    fs::write(
        &program,
        format!("#!/bin/sh\necho $$ > {0}.new; /bin/mv {0}.new {0}\nexec /bin/sleep 1000\n", pid.display()),
    )
    .unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program
}

/// Waits until the idle program is there, or is gone.
#[track_caller]
fn wait_for_idle(scratch: &Path, is_there: bool) {
    let runs = || {
        let pid = fs::read_to_string(scratch.join("pid")).ok()?;
        let status = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).ok()?;
        // One that is dead and only not reaped yet is gone.
        (!status.contains(") Z ")).then_some(())
    };
    assert!(
        wait_until(SOON, || (runs().is_some() == is_there).then_some(())).is_some(),
        "there: {}",
        !is_there
    );
}

#[test]
fn a_guest_that_answers_is_told_and_ended() {
    if skip_without_machines("a_guest_that_answers_is_told_and_ended") {
        return;
    }
    let scratch = tempfile::Builder::new().prefix("hypercore-probe-").tempdir().unwrap();
    let kernel = furnish(scratch.path());
    fs::copy(&kernel.image, scratch.path().join("vmlinuz")).unwrap();
    let qemu = Path::new("/usr/bin/qemu-system-x86_64");
    let output = probe(scratch.path(), &machine(scratch.path(), qemu, 60_000));
    assert_eq!(fault(&output), None, "{output:?}");
}

/// What Firecracker and Cloud Hypervisor boot; QEMU can, too.
#[test]
fn a_kernel_that_was_taken_out_of_its_image_boots() {
    if skip_without_machines("a_kernel_that_was_taken_out_of_its_image_boots") {
        return;
    }
    let scratch = tempfile::Builder::new().prefix("hypercore-probe-").tempdir().unwrap();
    let kernel = furnish(scratch.path());
    let program = vmlinux::extract(&kernel.image, scratch.path()).unwrap();
    fs::rename(program, scratch.path().join("vmlinuz")).unwrap();
    let qemu = Path::new("/usr/bin/qemu-system-x86_64");
    let output = probe(scratch.path(), &machine(scratch.path(), qemu, 60_000));
    assert_eq!(fault(&output), None, "{output:?}");
}

/// Makes the initramfs for the kernel of the tests.
fn furnish(scratch: &Path) -> Kernel {
    let kernel = Kernel::in_tree(&guest_kernel().unwrap()).unwrap();
    let agent = Path::new(VMM).with_file_name("hypercore-guest");
    let initramfs = initramfs::build(&kernel, &agent, scratch).unwrap();
    fs::rename(initramfs, scratch.join("initramfs")).unwrap();
    kernel
}

#[test]
fn a_machine_that_says_nothing_is_ended_in_time() {
    let scratch = tempfile::tempdir().unwrap();
    let program = idle_program(scratch.path());
    let output = probe(scratch.path(), &machine(scratch.path(), &program, 1500));
    assert_eq!(fault(&output).as_deref(), Some("the guest did not answer within 1.5 seconds"));
    wait_for_idle(scratch.path(), false);
}

#[test]
fn a_machine_that_ends_by_itself_is_told_with_what_it_said() {
    let scratch = tempfile::tempdir().unwrap();
    let qemu = scratch.path().join("broken");
    fs::write(&qemu, "#!/bin/sh\necho 'no such processor' >&2\nexit 3\n").unwrap();
    fs::set_permissions(&qemu, fs::Permissions::from_mode(0o755)).unwrap();
    let output = probe(scratch.path(), &machine(scratch.path(), &qemu, 60_000));
    let told = fault(&output).unwrap();
    assert!(told.contains("ended before its guest answered"), "{told}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "no such processor\n");
}

#[test]
fn what_can_not_be_tried_is_no_result() {
    let scratch = tempfile::tempdir().unwrap();
    for machine in [
        machine(scratch.path(), Path::new("/nonexistent/qemu"), 1000),
        serde_json::json!({"monitor": "bhyve"}),
    ] {
        let output = probe(scratch.path(), &machine);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{output:?}");
    }
    let usage = Command::new(VMM).args(["probe", "relative"]).output().unwrap();
    assert_eq!(usage.status.code(), Some(2), "{usage:?}");
}

#[test]
fn a_probe_that_nobody_waits_for_ends_with_its_machine() {
    let scratch = tempfile::tempdir().unwrap();
    let program = idle_program(scratch.path());
    let mut probe = begin(scratch.path(), &machine(scratch.path(), &program, 600_000));
    wait_for_idle(scratch.path(), true);
    drop(probe.stdin.take());
    let output = probe.wait_with_output().unwrap();
    assert!(fault(&output).unwrap().contains("ended before its guest answered"), "{output:?}");
    wait_for_idle(scratch.path(), false);
}

#[test]
fn a_killed_probe_takes_its_machine_along() {
    let scratch = tempfile::tempdir().unwrap();
    let program = idle_program(scratch.path());
    let mut probe = begin(scratch.path(), &machine(scratch.path(), &program, 600_000));
    wait_for_idle(scratch.path(), true);
    probe.kill().unwrap();
    probe.wait().unwrap();
    wait_for_idle(scratch.path(), false);
}
