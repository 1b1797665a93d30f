//! What only microVMs have: a machine that can be killed, a kernel that can be wrong, a guest that can't be believed,
//! and a stand-in on the host whose files are not the workload's. What they have in common with containers is in
//! `behaviour`.

mod engine;
mod port;
mod preferred;
mod silent;
mod storage;

use std::{fs, path::Path, thread};

use hypercore_fixtures::{guest_kernel, skip_without_machines, wait_until};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{node::Node, program::Ended};

const SOON: std::time::Duration = std::time::Duration::from_secs(60);

/// `run` of a microVM with these flags and this command.
fn run(node: &Node, flags: &[&str], command: &[&str]) -> Ended {
    node.run(&[&["run", "--isolation", "microvm"], flags, &["busybox", "--"], command].concat())
}

#[track_caller]
fn detach(node: &Node, name: &str, flags: &[&str], command: &[&str]) {
    run(node, &[&["-d", "--name", name], flags].concat(), command).expect(0);
}

#[test]
fn files_of_the_host_are_never_taken_for_the_machines() {
    if skip_without_machines("files_of_the_host_are_never_taken_for_the_machines") {
        return;
    }
    let node = Node::start();
    let secret = node.path("secret");
    fs::write(&secret, "of the host").unwrap();
    detach(&node, "job", &[], &["sleep", "1000"]);
    let path = secret.to_str().unwrap();
    let of_machine = format!("job:{path}");
    for of_machine in [of_machine.as_str(), "job:/init", "job:/writable/upper"] {
        let missing = node.run(&["cp", of_machine, "-"]).expect(3);
        assert!(missing.stdout.is_empty() && missing.stderr.contains("there is no"), "{missing:?}");
    }
    node.run(&["pause", "job"]).expect(0);
    let refused = node.run(&["cp", "job:/etc", "-"]).expect(6);
    assert!(refused.stderr.contains("is paused"), "{refused:?}");
    node.run(&["resume", "job"]).expect(0);
    let ended = node.run(&["exec", "job", "cat", path]).expect(1);
    assert_eq!(ended.stdout, "");
    let guest = node.run(&["exec", "job", "cat", "/proc/sys/kernel/osrelease"]).expect(0).stdout;
    assert!(guest.contains("cloud"), "it runs on the host's kernel: {guest}");
    node.run(&["stop", "-t", "0", "job"]).expect(0);
    let refused = node.run(&["cp", &of_machine, "-"]);
    assert!(refused.code == Some(6) && refused.stdout.is_empty(), "{refused:?}");
    assert!(refused.stderr.contains("only while it runs"), "{refused:?}");
    node.finish();
}

#[test]
fn what_a_machine_can_not_be_given_is_refused_by_name() {
    if skip_without_machines("what_a_machine_can_not_be_given_is_refused_by_name") {
        return;
    }
    let node = Node::start();
    for (flags, named) in [
        (&["-v", "/etc/passwd:/data"][..], "a single file of the host"),
        (&["--userns"], "a user namespace"),
        (&["--init"], "a small init"),
        (&["--ulimit", "nofile=64"], "resource limits"),
        (&["--cap-add", "NET_ADMIN"], "capabilities"),
        (&["--cap-drop", "ALL"], "capabilities"),
        (&["--memory", "64MiB"], "128MiB"),
    ] {
        let refused = run(&node, &[&["--rm"], flags].concat(), &["true"]);
        assert!(refused.code.is_some_and(|code| code != 0), "{flags:?}: {refused:?}");
        assert!(
            refused.stderr.contains(named) && refused.stderr.contains("hint: "),
            "{flags:?}: {refused:?}"
        );
    }
    node.finish();
}

#[test]
fn a_kernel_that_is_none_is_told_and_containers_run_all_the_same() {
    if skip_without_machines("a_kernel_that_is_none_is_told_and_containers_run_all_the_same") {
        return;
    }
    let mut node = Node::start();
    let kernel = node.path("kernel");
    let tree = guest_kernel().unwrap();
    let mut boot = fs::read_dir(tree.join("boot")).unwrap().flatten().map(|entry| entry.path());
    let image = boot.find(|path| path.to_string_lossy().contains("vmlinuz")).unwrap();
    type Make = fn(&Path, &Path);
    let cases: [(Make, &str); 3] = [
        (|kernel, _| fs::write(kernel, "#!/bin/sh\n").unwrap(), "is not a Linux kernel"),
        (|kernel, _| fs::remove_file(kernel).unwrap(), "can't be read"),
        (|kernel, image| assert!(fs::copy(image, kernel).unwrap() > 0), "the modules of the kernel"),
    ];
    for (make, told) in cases {
        make(&kernel, &image);
        node.stop_agent();
        node.set("HYPERCORE_RUNTIME_KERNEL", kernel.to_str().unwrap());
        node.start_agent();
        let refused = run(&node, &["--rm"], &["true"]);
        assert!(refused.code.is_some_and(|code| code != 0) && refused.stderr.contains(told), "{refused:?}");
        assert!(refused.stderr.contains("doctor"), "{refused:?}");
        node.run(&["run", "--rm", "busybox", "--", "true"]).expect(0);
    }
    node.finish();
}

#[test]
fn a_guest_that_does_not_come_up_is_shown_by_its_console() {
    if skip_without_machines("a_guest_that_does_not_come_up_is_shown_by_its_console") {
        return;
    }
    let node = Node::start();
    run(&node, &["--rm"], &["true"]).expect(0);
    let initramfs = initramfs(&node);
    fs::write(&initramfs, "neither cpio nor compressed").unwrap();
    let refused = run(&node, &["--rm"], &["true"]);
    assert!(refused.code.is_some_and(|code| code != 0), "{refused:?}");
    assert!(refused.stderr.contains("ended before its guest answered"), "{refused:?}");
    assert!(refused.stderr.contains("Kernel panic"), "its console is not shown: {refused:?}");
    node.finish();
}

/// What the machines of this node boot from.
fn initramfs(node: &Node) -> std::path::PathBuf {
    let cached = fs::read_dir(node.path("data/images/vm")).unwrap().flatten().map(|entry| entry.path());
    let mut cached: Vec<_> = cached.filter(|path| path.to_string_lossy().contains("initramfs-")).collect();
    assert_eq!(cached.len(), 1, "{cached:?}");
    cached.remove(0)
}

#[test]
fn a_killed_monitor_is_the_workloads_end_and_nobody_elses() {
    if skip_without_machines("a_killed_monitor_is_the_workloads_end_and_nobody_elses") {
        return;
    }
    let node = Node::start();
    for name in ["dies", "falls", "asked", "stays"] {
        detach(&node, name, &[], &["sleep", "1000"]);
    }
    // Its engine, then what holds that; an end by request or of the process itself needs no explanation.
    kill(Pid::from_raw(monitor_of(&node, "dies")), Signal::SIGKILL).unwrap();
    kill(Pid::from_raw(stand_in_of(&node, "falls")), Signal::SIGKILL).unwrap();
    node.run(&["kill", "asked"]).expect(0);
    for (name, told) in [
        ("dies", "qemu ended (signal: 9"),
        ("falls", "the process that held its machine was killed"),
        ("asked", ""),
    ] {
        node.run(&["wait", name]).expect(137);
        let shown = node.inspect(name);
        let reason = shown["reason"].as_str().unwrap_or_default();
        assert!(reason.contains(told) && reason.is_empty() == told.is_empty(), "{shown:#}");
    }
    node.run(&["exec", "stays", "true"]).expect(0);
    let own = run(&node, &["--rm"], &["sh", "-c", "kill -9 $$; sh -c 'kill -9 $$'; exit $?"]).expect(137);
    assert!(!own.stderr.contains("machine"), "{own:?}");
    // A stopped monitor answers nothing more, and still can be ended.
    kill(Pid::from_raw(monitor_of(&node, "stays")), Signal::SIGSTOP).unwrap();
    node.run(&["stop", "-t", "1", "stays"]).expect(0);
    node.run(&["wait", "stays"]).expect(137);
    node.finish();
}

/// Who waits for a machine at its host is told what became of it.
#[test]
fn a_machine_that_ends_under_its_workload_is_told_to_who_waits() {
    if skip_without_machines("a_machine_that_ends_under_its_workload_is_told_to_who_waits") {
        return;
    }
    let node = Node::start();
    thread::scope(|scope| {
        let waiting =
            scope.spawn(|| run(&node, &["--name", "job", "--rm"], &["sh", "-c", "echo up; sleep 1000"]));
        let is_up = || node.run(&["logs", "job"]).stdout.contains("up").then_some(());
        wait_until(SOON, is_up).expect("it runs");
        kill(Pid::from_raw(monitor_of(&node, "job")), Signal::SIGKILL).unwrap();
        let told = waiting.join().unwrap().expect(137);
        assert!(told.stderr.contains("its machine ended under it: qemu ended (signal: 9"), "{told:?}");
    });
    node.finish();
}

/// What stands in for a workload's first process on the host.
fn stand_in_of(node: &Node, name: &str) -> i32 {
    node.inspect(name)["pid"].as_i64().unwrap().try_into().unwrap()
}

/// The child of a workload's stand-in.
fn monitor_of(node: &Node, name: &str) -> i32 {
    let pid = &node.inspect(name)["pid"];
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn machines_that_begin_at_once_share_what_is_made_for_the_first() {
    if skip_without_machines("machines_that_begin_at_once_share_what_is_made_for_the_first") {
        return;
    }
    let node = Node::start();
    thread::scope(|scope| {
        for number in 0..4 {
            let node = &node;
            scope.spawn(move || {
                let said = run(node, &["--rm"], &["sh", "-c", &format!("echo {number}")]).expect(0).stdout;
                assert_eq!(said, format!("{number}\n"));
            });
        }
    });
    initramfs(&node);
    let cached = fs::read_dir(node.path("data/images/vm")).unwrap().flatten();
    let left: Vec<_> =
        cached.filter(|entry| entry.path().extension().is_some_and(|end| end == "new")).collect();
    assert!(left.is_empty(), "{left:?}");
    // Only small records of a workload stay.
    for workload in fs::read_dir(node.path("data/workloads")).unwrap().flatten() {
        assert!(!workload.path().join("writable.ext4").exists(), "a workload's disk is left");
    }
    node.finish();
}

#[test]
fn rules_between_tenants_hold_between_machines_and_containers() {
    if skip_without_machines("rules_between_tenants_hold_between_machines_and_containers") {
        return;
    }
    let node = Node::start();
    let serve = ["busybox", "--", "sh", "-c", "while :; do echo hello | nc -l -p 99; done"];
    for (name, tenant) in [("ours", "one"), ("theirs", "two")] {
        node.detach(&[&["--name", name, "--tenant", tenant], serve.as_slice()].concat());
    }
    detach(&node, "job", &["--tenant", "one"], &["sleep", "1000"]);
    let knock = |name: &str| {
        let address = node.inspect(name)["address"].as_str().unwrap().to_owned();
        node.run(&["exec", "job", "sh", "-c", &format!("nc -w 2 {address} 99 </dev/null")]).stdout
    };
    assert!(wait_until(SOON, || (knock("ours") == "hello\n").then_some(())).is_some());
    assert_eq!(knock("theirs"), "");
    // One that takes another's address is not heard.
    let theirs = node.inspect("theirs")["address"].as_str().unwrap().to_owned();
    let spoof = format!("ip address add {theirs}/32 dev eth0; nc -w 2 -s {theirs} $0 99 </dev/null");
    let ours = node.inspect("ours")["address"].as_str().unwrap().to_owned();
    assert_eq!(
        node.run(&["exec", "job", "sh", "-c", &spoof, &ours]).stdout,
        "",
        "a borrowed address was heard"
    );
    node.finish();
}
