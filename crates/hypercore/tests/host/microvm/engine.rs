//! What runs a microVM, and what can't: an engine that isn't there, that is too old, or that is none, and kernels that
//! are none. Each is told by `doctor`, when the agent starts and by `run`, and containers run all the same.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use hypercore_fixtures::{guest_kernel, host::note_skipped, skip_without_machines, wait_until};

use super::{SOON, detach, run};
use crate::{
    node::Node,
    program::{Ended, finish},
};

/// What the tests' hosts have, and only they.
const QEMU: &str = "/usr/bin/qemu-system-x86_64";
/// The device of KVM.
pub(super) const KVM: &str = "/dev/kvm";

/// `doctor`'s finding of this name.
#[track_caller]
fn finding(doctor: &Ended, check: &str) -> serde_json::Value {
    let findings = doctor.json();
    let found = findings.as_array().unwrap().iter().find(|finding| finding["check"] == check);
    found.unwrap_or_else(|| panic!("{check} in {findings:#}")).clone()
}

/// `doctor --json` of the node, with this kernel.
fn doctor(node: &Node, kernel: &Path) -> Ended {
    let mut command = node.command(&["doctor", "--json"]);
    command.env("HYPERCORE_RUNTIME_KERNEL", kernel).env("HYPERCORE_NODE_DATA_DIRECTORY", node.path("data"));
    finish(&mut command, b"")
}

#[test]
fn the_engine_is_shown_and_another_is_refused_by_name() {
    if skip_without_machines("the_engine_is_shown_and_another_is_refused_by_name") {
        return;
    }
    let mut node = Node::start();
    detach(&node, "job", &["--vmm", "qemu"], &["sleep", "1000"]);
    let shown = |node: &Node| {
        let job = node.inspect("job");
        (job["vmm"].clone(), job["accelerator"].clone())
    };
    let (vmm, accelerator) = shown(&node);
    assert_eq!(vmm, "qemu");
    assert!(accelerator == "tcg" || accelerator == "kvm", "{accelerator}");
    for (vmm, name) in [("firecracker", "Firecracker"), ("cloud-hypervisor", "Cloud Hypervisor")] {
        if Path::new("/usr/bin").join(vmm).exists() || Path::new("/usr/local/bin").join(vmm).exists() {
            continue;
        }
        let refused = run(&node, &["--rm", "--vmm", vmm], &["true"]);
        assert!(refused.code.is_some_and(|code| code != 0), "{refused:?}");
        let is_named = refused.stderr.contains(&format!("{name} is not installed"));
        assert!(is_named && refused.stderr.contains("hint: leave --vmm"), "{refused:?}");
    }
    let mistake = node.run(&["run", "--rm", "--vmm", "qemu", "busybox", "--", "true"]);
    assert!(mistake.stderr.contains("a container has no machine"), "{mistake:?}");
    let node_view = node.run(&["node", "inspect"]).expect(0).json();
    assert!(node_view["vmm"].as_str().unwrap().starts_with("QEMU "), "{node_view}");
    // What is known is not tried again, and what runs stays what it is.
    node.stop_agent();
    node.start_agent();
    assert_eq!(shown(&node), (vmm, accelerator));
    assert_eq!(run(&node, &["--rm"], &["echo", "again"]).expect(0).stdout, "again\n");
    let log = node.agent_log();
    assert_eq!(log.matches("microVMs run with QEMU").count(), 2, "{log}");
    assert!(log.matches("finding out whether KVM works").count() <= 1, "{log}");
    node.finish();
}

/// A program in the place of QEMU.
fn fake(node: &Node, name: &str, script: &str) -> PathBuf {
    let path = node.path(name);
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// The command in a mount namespace of its own, in which `program` is QEMU.
fn with_qemu(program: &Path, command: &Command) -> Command {
    furnished(&format!("mount --bind \"$0\" {QEMU}"), program, command)
}

/// The command in a mount namespace of its own, after the shell's `mounts`, in which `program` is `$0`. Where the host
/// has a device for KVM, that opens, and is none.
pub(super) fn furnished(mounts: &str, program: &Path, command: &Command) -> Command {
    let mut inside = Command::new("unshare");
    let device = format!("if [ -e {KVM} ]; then mount --bind /dev/null {KVM}; fi");
    inside.args(["--mount", "sh", "-c", &format!("{device}; {mounts} && exec \"$@\"")]);
    inside.arg(program).arg(command.get_program()).args(command.get_args());
    for (variable, value) in command.get_envs() {
        match value {
            Some(value) => inside.env(variable, value),
            None => inside.env_remove(variable),
        };
    }
    inside
}

#[test]
fn an_engine_that_can_not_be_used_is_told_and_containers_run_all_the_same() {
    let test = "an_engine_that_can_not_be_used_is_told_and_containers_run_all_the_same";
    if skip_without_machines(test) {
        return;
    }
    if ["firecracker", "cloud-hypervisor"].iter().any(|vmm| Path::new("/usr/bin").join(vmm).exists()) {
        note_skipped(test, "another engine would run them");
        return;
    }
    let node = Node::prepare();
    let old = fake(&node, "old", "#!/bin/sh\necho 'QEMU emulator version 6.2.0 (old)'\n");
    let other = fake(&node, "other", "#!/bin/sh\necho 'Usage: something else'\n");
    let none = node.path("none");
    fs::write(&none, "no program").unwrap();
    for (program, told) in [
        (&old, "QEMU 6.2.0 is not supported"),
        (&other, "does not say that it is QEMU"),
        (&none, "can't be run"),
    ] {
        let mut plain = node.command(&["doctor", "--json"]);
        plain.env("HYPERCORE_RUNTIME_KERNEL", guest_kernel().unwrap());
        let doctor = finish(&mut with_qemu(program, &plain), b"");
        let finding = finding(&doctor, "vmm");
        assert!(
            finding["status"] == "warn" && finding["message"].as_str().unwrap().contains(told),
            "{finding}"
        );
    }
    refuses_microvms_and_runs_containers(node, &old, "QEMU 6.2.0 is not supported");
}

/// Starts the agent where `program` is QEMU.
#[track_caller]
fn begin(node: &mut Node, program: &Path) {
    let agent = with_qemu(program, &node.up());
    begin_as(node, agent);
}

/// Starts the agent so.
#[track_caller]
pub(super) fn begin_as(node: &mut Node, mut agent: Command) {
    let log = fs::File::create(node.path("agent.log")).unwrap();
    agent.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    node.is_run_by(agent.spawn().unwrap());
    let is_up = wait_until(SOON, || (node.run(&["ps"]).code == Some(0)).then_some(()));
    assert!(is_up.is_some(), "{}", node.agent_log());
}

/// A node whose agent finds `program` where QEMU should be.
fn refuses_microvms_and_runs_containers(mut node: Node, program: &Path, told: &str) {
    begin(&mut node, program);
    node.import_busybox();
    for flags in [&["--rm"][..], &["--rm", "--vmm", "qemu"]] {
        let refused = run(&node, flags, &["true"]);
        assert!(refused.code.is_some_and(|code| code != 0), "{refused:?}");
        assert!(refused.stderr.contains(told) && refused.stderr.contains("hint: "), "{refused:?}");
    }
    node.run(&["run", "--rm", "busybox", "--", "true"]).expect(0);
    let log = node.agent_log();
    assert!(log.contains("microVMs can't be run") && log.contains(told), "{log}");
    node.finish();
}

/// A device that opens on a host whose guests say nothing: the device is another one, and QEMU does nothing.
#[test]
fn a_guest_that_says_nothing_is_no_kvm_and_a_start_waits_to_know_that() {
    let test = "a_guest_that_says_nothing_is_no_kvm_and_a_start_waits_to_know_that";
    if skip_without_machines(test) {
        return;
    }
    if !Path::new(KVM).exists() {
        note_skipped(test, "no /dev/kvm to put another device on");
        return;
    }
    let mut node = Node::prepare();
    node.set("HYPERCORE_RUNTIME_VMM", "qemu");
    node.set("HYPERCORE_RUNTIME_BOOT_TIME_MAX", "2s");
    let (script, pids) = (node.path("silent"), node.path("pids"));
    let script = fake(&node, script.file_name().unwrap().to_str().unwrap(), &silent(&pids));
    begin(&mut node, &script);
    node.import_busybox();
    detach_unseen(&node);
    let waits = || {
        let job = node.inspect("job");
        let reason = job["reason"].as_str().unwrap_or_default().to_owned();
        reason.contains("waiting until the node knows what runs microVMs").then_some(())
    };
    assert!(wait_until(SOON, waits).is_some(), "{:#}", node.inspect("job"));
    node.wait_for_status("job", "failed");
    let job = node.inspect("job");
    let reason = job["reason"].as_str().unwrap();
    assert!(reason.contains("the guest did not answer within 2 seconds"), "{reason}");
    let log = node.agent_log();
    assert!(log.contains("/dev/kvm opens, but the guest did not answer within 5 seconds"), "{log}");
    let view = node.run(&["node", "inspect"]).expect(0).json();
    assert_eq!(view["vmm"], "QEMU 7.2.22 in software");
    for pid in fs::read_to_string(&pids).unwrap().lines() {
        let is_over = || (!Path::new("/proc").join(pid).exists()).then_some(());
        assert!(wait_until(SOON, is_over).is_some(), "a machine is left: {pid}");
    }
    assert!(node.path("data/kvm-probe.json").exists());
    node.finish();
}

/// A QEMU that says its release, and nothing more. It notes its pid.
fn silent(pids: &Path) -> String {
    let version = "[ \"$1\" = --version ] && echo 'QEMU emulator version 7.2.22' && exit";
    format!("#!/bin/sh\n{version}\necho $$ >> {}\nexec /bin/sleep 1000\n", pids.display())
}

/// Asks for a microVM, and doesn't stay to see it start.
fn detach_unseen(node: &Node) {
    let mut asked =
        node.command(&["run", "-d", "--isolation", "microvm", "--name", "job", "busybox", "--", "true"]);
    let mut asked = asked.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let is_there = || (node.run(&["inspect", "job"]).code == Some(0)).then_some(());
    let there = wait_until(SOON, is_there);
    asked.kill().unwrap();
    asked.wait().unwrap();
    assert!(there.is_some(), "{}", node.agent_log());
}

#[test]
fn a_kernel_that_can_not_be_used_is_told_by_doctor() {
    if skip_without_machines("a_kernel_that_can_not_be_used_is_told_by_doctor") {
        return;
    }
    let node = Node::prepare();
    let tree = guest_kernel().unwrap();
    let mut boot = fs::read_dir(tree.join("boot")).unwrap().flatten().map(|entry| entry.path());
    let image = boot.find(|path| path.to_string_lossy().contains("vmlinuz")).unwrap();
    let release = image.file_name().unwrap().to_str().unwrap().strip_prefix("vmlinuz-").unwrap().to_owned();
    let (no_kernel, alone, bare) = (node.path("script"), node.path("alone"), node.path("bare"));
    fs::write(&no_kernel, "#!/bin/sh\n").unwrap();
    fs::copy(&image, &alone).unwrap();
    // A kernel beside a directory of modules with nothing in it.
    fs::create_dir_all(bare.join("boot")).unwrap();
    fs::create_dir_all(bare.join("lib/modules").join(&release).join("kernel")).unwrap();
    fs::copy(&image, bare.join("boot").join(image.file_name().unwrap())).unwrap();
    for (kernel, told) in [
        (&no_kernel, "is not a Linux kernel"),
        (&node.path("missing"), "can't be read"),
        (&alone, "the modules of the kernel"),
        (&bare, "the kernel has no module"),
    ] {
        let doctor = doctor(&node, kernel);
        let finding = finding(&doctor, "guest kernel");
        assert!(
            finding["status"] == "warn" && finding["message"].as_str().unwrap().contains(told),
            "{finding}"
        );
        assert!(finding["hint"].is_string(), "{finding}");
        assert!(!node.path("data").exists(), "doctor made something");
    }
    let doctor = doctor(&node, &tree);
    assert_eq!(finding(&doctor, "guest kernel")["status"], "ok");
    assert_eq!(finding(&doctor, "vmm")["status"], "ok");
}
