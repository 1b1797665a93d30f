//! Limits: what was asked for is what the kernel enforces, and a start fits into the smallest of them.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use hypercore_fixtures::{skip_without_root, wait_until};

use super::Machine;

/// CPU time that everything in the container's cgroup used.
fn cpu_used(machine: &Machine) -> Duration {
    Duration::from_micros(machine.cgroups.usage(machine.id).unwrap().cpu_usage_us)
}

#[test]
fn half_a_cpu_is_half_of_one_cpu() {
    if skip_without_root("half_a_cpu_is_half_of_one_cpu") {
        return;
    }
    // Two loops, so that on any host with two CPUs a limit per CPU would show.
    let mut machine = Machine::shell("while :; do :; done & while :; do :; done");
    machine.spec.cpu = Some("0.5".parse().unwrap());
    let started = machine.create().unwrap();
    let (begin, used_before) = (Instant::now(), cpu_used(&machine));
    let one_second = Duration::from_secs(1);
    wait_until(2 * one_second, || (begin.elapsed() > one_second).then_some(())).unwrap();
    let share = (cpu_used(&machine) - used_before).as_secs_f64() / begin.elapsed().as_secs_f64();
    // A busy machine can give less than the limit, never more; one period of 0.1 s may be cut either way.
    assert!((0.2..=0.6).contains(&share), "{share}");
    machine.delete();
    started.wait();
}

#[test]
fn too_much_memory_kills_inside() {
    if skip_without_root("too_much_memory_kills_inside") {
        return;
    }
    let mut machine = Machine::shell("head -c 64m /dev/zero | tail -c 64m >/dev/null; echo $?");
    machine.spec.memory = Some("16MiB".parse().unwrap());
    let started = machine.create().unwrap();
    let ended = started.wait();
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "137\n"), "{}", ended.stderr);
    assert!(machine.cgroups.oom_kills(machine.id).unwrap() >= 1);
    machine.delete();
}

#[test]
fn more_processes_than_allowed_are_refused() {
    if skip_without_root("more_processes_than_allowed_are_refused") {
        return;
    }
    let mut machine = Machine::shell("for i in 1 2 3 4 5 6 7 8; do sleep 100 & done; wait");
    machine.spec.pids_max = 4;
    let started = machine.create().unwrap();
    let refused = wait_until(Duration::from_secs(10), || {
        let pids = machine.cgroups.usage(machine.id).unwrap().pids;
        assert!(pids <= 4, "{pids}");
        started.stderr().contains("can't fork").then_some(())
    });
    assert!(refused.is_some(), "{}", started.stderr());
    machine.delete();
    started.wait();
}

#[test]
fn a_start_fits_into_the_least_that_can_be_asked_for() {
    if skip_without_root("a_start_fits_into_the_least_that_can_be_asked_for") {
        return;
    }
    let timed = |limit: &dyn Fn(&mut Machine)| {
        let mut machine = Machine::shell("");
        machine.spec.command = vec!["true".into()];
        limit(&mut machine);
        let begin = Instant::now();
        let started = machine.create().unwrap();
        let took = begin.elapsed();
        assert_eq!(started.wait().code, 0);
        machine.delete();
        took
    };
    let unlimited = timed(&|_| {});
    let limited = timed(&|machine| {
        machine.spec.cpu = Some("0.01".parse().unwrap());
        machine.spec.memory = Some("6MiB".parse().unwrap());
        machine.spec.pids_max = 1;
    });
    // The start itself isn't slowed down by the limit of the program: that would take 100 times its CPU time.
    assert!(
        limited < unlimited * 10 + Duration::from_millis(200),
        "{limited:?}, without limits {unlimited:?}"
    );
}

#[test]
fn an_exec_is_inside_every_limit() {
    if skip_without_root("an_exec_is_inside_every_limit") {
        return;
    }
    let machine = Machine::shell("sleep 100");
    let started = machine.create().unwrap();
    let exec = machine.exec(&["sleep", "100"]).unwrap();
    let cgroups_of = |pid: i32| -> Vec<String> {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let is_ours = |line: &&str| line.ends_with(&machine.cgroups.path_of(machine.id));
        text.lines().filter(is_ours).map(str::to_owned).collect()
    };
    let of_first = cgroups_of(started.pid);
    assert!(!of_first.is_empty());
    assert_eq!(of_first, cgroups_of(exec.pid));
    if PathBuf::from("/sys/fs/cgroup/unified/cgroup.procs").exists() {
        assert!(of_first.iter().any(|line| line.starts_with("0::")), "{of_first:?}");
    }
    machine.delete();
    // A pid namespace's first process is only gone when all others were reaped.
    assert_eq!((exec.wait().code, started.wait().code), (137, 137));
}
