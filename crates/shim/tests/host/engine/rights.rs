//! Rights: capabilities, system calls, devices and the kernel's files, for the first process and for later ones.

use std::time::Duration;

use hypercore_fixtures::{skip_without_root, wait_until};

use super::Machine;

/// Docker's default capabilities without MKNOD, as `/proc/<pid>/status` shows them.
const CAPABILITIES: &str = "00000000a00425fb";

/// Runs `script` as the first process of one container and as an exec of another; both say the same.
fn both(script: &str) -> String {
    let first = Machine::shell(script).run();
    let machine = Machine::shell("sleep 100");
    let started = machine.create().unwrap();
    let exec = machine.exec(&["sh", "-c", script]).unwrap().wait();
    machine.delete();
    started.wait();
    assert_eq!((first.code, &first.stdout), (exec.code, &exec.stdout), "{} | {}", first.stderr, exec.stderr);
    first.stdout
}

#[test]
fn capabilities_are_the_default_ones() {
    if skip_without_root("capabilities_are_the_default_ones") {
        return;
    }
    let found = both("grep -E 'Cap|NoNewPrivs|Seccomp:' /proc/self/status | tr -d '\\t'");
    let none = "0000000000000000";
    let expected = format!(
        "CapInh:{none}\nCapPrm:{CAPABILITIES}\nCapEff:{CAPABILITIES}\nCapBnd:{CAPABILITIES}\nCapAmb:{none}\n\
         NoNewPrivs:1\nSeccomp:2\n"
    );
    assert_eq!(found, expected);
}

#[test]
fn an_ordinary_user_has_no_capability() {
    if skip_without_root("an_ordinary_user_has_no_capability") {
        return;
    }
    let mut machine = Machine::shell("grep -E 'CapPrm|CapEff' /proc/self/status | tr -d '\\t'; cat /root/x");
    machine.spec.user = Some("app".into());
    let ended = machine.run();
    assert_eq!(ended.stdout, "CapPrm:0000000000000000\nCapEff:0000000000000000\n");
    assert_ne!(ended.code, 0);
}

#[test]
fn calls_that_reach_for_the_host_are_refused() {
    if skip_without_root("calls_that_reach_for_the_host_are_refused") {
        return;
    }
    for attempt in [
        "unshare -m true",
        "unshare -U true",
        "unshare -n true",
        "mount -t tmpfs none /tmp",
        "mount --bind /proc /tmp",
        "umount /proc",
        "swapoff -a && swapon /dev/null",
        "hostname other",
        "dmesg",
        "mknod /tmp/disk b 8 0",
        "reboot -f",
        "nsenter -t 1 -m true",
        "insmod /bin/busybox",
        "pivot_root / /tmp",
    ] {
        let found = both(&format!("{attempt} >/dev/null 2>&1 && echo allowed; echo refused"));
        assert_eq!(found, "refused\n", "{attempt}");
    }
}

#[test]
fn devices_are_the_default_ones() {
    if skip_without_root("devices_are_the_default_ones") {
        return;
    }
    let found = both("ls /dev");
    let expected = "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero";
    let found: Vec<&str> = found.split_whitespace().filter(|name| *name != "kcore").collect();
    let expected: Vec<&str> = expected.split_whitespace().filter(|name| *name != "core").collect();
    assert_eq!(found, expected);
    let script = "head -c 4 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c; echo x >/dev/null && echo ok; \
                  echo x >/dev/full || echo full";
    assert_eq!(both(script).replace(' ', ""), "4\n4\nok\nfull\n");
}

#[test]
fn the_kernels_files_are_masked_or_read_only() {
    if skip_without_root("the_kernels_files_are_masked_or_read_only") {
        return;
    }
    for attempt in [
        "echo 1 > /proc/sys/kernel/panic",
        "echo b > /proc/sysrq-trigger",
        "echo 1 > /sys/kernel/mm/ksm/run",
        "grep . /proc/keys",
        "grep . /proc/timer_list",
        "ls /sys/firmware | grep .",
    ] {
        assert_eq!(
            both(&format!("{attempt} >/dev/null 2>&1 && echo open; echo shut")),
            "shut\n",
            "{attempt}"
        );
    }
}

#[test]
fn namespaces_are_the_containers_own() {
    if skip_without_root("namespaces_are_the_containers_own") {
        return;
    }
    let found = Machine::shell("for n in /proc/self/ns/*; do readlink $n; done").run().stdout;
    for name in ["mnt", "pid", "ipc", "uts", "net", "cgroup"] {
        let own = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap().display().to_string();
        assert!(found.contains(&format!("{name}:[")) && !found.contains(&own), "{name}: {found}");
    }
}

#[test]
fn a_later_process_joins_the_namespaces_of_the_first() {
    if skip_without_root("a_later_process_joins_the_namespaces_of_the_first") {
        return;
    }
    let list = "for n in /proc/self/ns/*; do readlink $n; done; echo end";
    let machine = Machine::shell(&format!("{list}; sleep 100"));
    let started = machine.create().unwrap();
    wait_until(Duration::from_secs(10), || started.stdout().contains("end").then_some(())).unwrap();
    let exec = machine.exec(&["sh", "-c", list]).unwrap().wait();
    assert_eq!(exec.code, 0);
    machine.delete();
    assert_eq!(started.wait().stdout, exec.stdout);
}
