//! What a workload may use, and for how long: processor time, memory that comes back, processes, a time to live.

use std::time::{Duration, Instant};

use hypercore_fixtures::wait_until;

use super::{House, SOON};

/// How long processor time is measured for.
const MEASURED: Duration = Duration::from_secs(5);
/// What is written into memory and removed again, in bytes.
const WRITTEN: u64 = 200_000_000;

/// One look at the workload's use.
fn stats(house: &House) -> serde_json::Value {
    house.node.run(&["stats", "job", "--no-stream", "--json"]).expect(0).json()[0].clone()
}

pub(super) fn its_processor_time_is_limited(house: &mut House) {
    house.detach("job", &["--cpu", "0.3"], &["sh", "-c", "echo up; while :; do :; done"]);
    house.wait_for_log("job", "up\n");
    let used_us = || stats(house)["cpu_usage_us"].as_u64().unwrap();
    let (begun, before) = (Instant::now(), used_us());
    wait_until(SOON, || (begun.elapsed() > MEASURED).then_some(())).unwrap();
    let (used, elapsed) = (used_us() - before, begun.elapsed().as_micros() as u64);
    // The quota is given out in tenths of a second: one more of them may have fallen into what was measured.
    let most = elapsed * 3 / 10 + 100_000;
    assert!((elapsed / 50..most).contains(&used), "{used} us of {elapsed} us");
    if !house.is_container() {
        let inside = house.exec(&[], &["grep", "-c", "^processor", "/proc/cpuinfo"]).expect(0);
        assert_eq!(inside.stdout, "1\n", "a part of a processor is one");
    }
}

pub(super) fn memory_that_it_gives_up_is_its_hosts_again(house: &mut House) {
    let flags = ["--memory", "512MiB", "--tmpfs", "/in:size=300MiB"];
    house.detach("job", &flags, &["sleep", "1000"]);
    let held = || stats(house)["memory_bytes"].as_u64().unwrap();
    let before = held();
    house.exec(&[], &["sh", "-c", &format!("head -c {WRITTEN} /dev/zero > /in/x")]).expect(0);
    let most = held();
    assert!(most > before + WRITTEN * 8 / 10, "{before} bytes before, {most} with what was written");
    house.exec(&[], &["rm", "/in/x"]).expect(0);
    let has_fallen = || (held() < most - WRITTEN * 6 / 10).then_some(());
    assert!(wait_until(SOON, has_fallen).is_some(), "{before} bytes before, then {most}, still {}", held());
    if !house.is_container() {
        let shown = stats(house);
        let guest = |field: &str| shown["guest"][field].as_u64().unwrap();
        assert!(guest("memory_total_bytes") < 512 << 20, "{shown:#}");
        assert!(guest("memory_available_bytes") > guest("memory_total_bytes") / 2, "{shown:#}");
        assert!(guest("disk_total_bytes") > guest("disk_used_bytes") && guest("pids") >= 1, "{shown:#}");
        assert!(shown["memory_bytes"].as_u64() > Some(0), "{shown:#}");
    } else {
        assert!(stats(house)["guest"].is_null());
    }
}

pub(super) fn its_time_to_live_ends_it(house: &mut House) {
    house.detach("job", &["--ttl", "12s"], &["sh", "-c", "trap 'exit 9' TERM; sleep 1000 & wait"]);
    let has_ended = || (house.node.inspect("job")["status"] == "stopped").then_some(());
    wait_until(SOON, has_ended).expect("it ended");
    let job = house.node.inspect("job");
    assert_eq!((&job["exit_code"], &job["reason_code"]), (&9.into(), &"ttl_over".into()), "{job:#}");
}

pub(super) fn too_many_processes_are_refused_and_nothing_else(house: &mut House) {
    // What it splits off lives on when it can't go on itself; after it, nothing more has to be split off.
    let bomb = "i=0; while [ $i -lt 200 ]; do sleep 1000 & i=$((i+1)); done; echo defused";
    let count = "n=0; for p in /proc/[0-9]*; do n=$((n+1)); done; echo over with $n.";
    let script = format!("sh -c '{bomb}'; {count}; exec sleep 1000");
    house.detach("job", &["--pids", "40"], &["sh", "-c", &script]);
    house.wait_for_log("job", ".\n");
    let said = house.logs("job");
    let counted =
        said.lines().find_map(|line| line.strip_prefix("over with ")?.strip_suffix('.')?.parse().ok());
    assert!(
        !said.contains("defused") && counted.is_some_and(|count: u32| (30..=40).contains(&count)),
        "{said}"
    );
    // A machine's agent is outside of the limit; a container is entered by processes that count too.
    if !house.is_container() {
        house.exec(&[], &["sh", "-c", "exit 7"]).expect(7);
        let refused = house.exec(&[], &["sh", "-c", "true & wait"]);
        assert!(refused.code != Some(0), "{refused:?}");
    }
    house.run(&["--rm"], &["true"]).expect(0);
    house.node.run(&["stop", "-t", "0", "job"]).expect(0);
}
