//! The pauses, what resets them, and what ends them.

use hypercore_model::exit::ExitRecord;

use super::*;
use crate::failure::Failure;

fn at(ms: u64) -> Timestamp {
    Timestamp::from_unix_ms(ms)
}

fn id(last: u8) -> WorkloadId {
    let mut bytes = [1; 16];
    bytes[15] = last;
    WorkloadId::from_bytes(bytes)
}

fn ran(exit: ExitStatus, ms: u64) -> End {
    End::Exited(ExitRecord { started_at: at(0), finished_at: at(ms), ..ExitRecord::new(exit, at(0), at(ms)) })
}

fn failed() -> End {
    let failure =
        Failure { code: "port_taken".into(), message: "the port is taken".into(), hint: String::new() };
    End::NotStarted(failure, at(5))
}

/// The pauses of a workload that ends after so many milliseconds each time.
fn pauses(ran_ms: u64, count: usize) -> Vec<u64> {
    let mut runs = Runs::first(Attempt::FIRST, at(0));
    let one = |runs: &mut Runs| {
        let end = ran(ExitStatus::Code(1), ran_ms);
        let next = runs.after(RestartPolicy::Always, id(0), &end, at(0)).unwrap();
        let until = next.pause().unwrap().until.unix_ms();
        *runs = next.begun(at(0));
        until
    };
    (0..count).map(|_| one(&mut runs)).collect()
}

#[test]
fn pauses_double_up_to_a_minute() {
    let doubling = [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000];
    assert_eq!(pauses(5, 12), doubling);
    assert_eq!(pauses(5, 100)[99], 60_000);
}

#[test]
fn who_ran_steadily_begins_anew() {
    assert_eq!(pauses(10_000, 3), [100; 3]);
    assert_eq!(pauses(9_999, 3), [100, 200, 400]);
}

#[test]
fn pauses_differ_between_workloads_by_at_most_a_tenth() {
    assert_eq!((pause(0, id(0)), pause(0, id(255))), (PAUSE_MIN, PAUSE_MIN * 11 / 10));
    assert_eq!(pause(60, id(255)), PAUSE_MAX);
}

#[test]
fn retries_are_counted_in_a_row_and_restarts_in_all() {
    let policy: RestartPolicy = "on-failure:2".parse().unwrap();
    let mut runs = Runs::first(Attempt::FIRST, at(0));
    let short = ran(ExitStatus::Code(1), 5);
    for restarts in 1..=2 {
        runs = runs.after(policy, id(0), &short, at(0)).unwrap().begun(at(0));
        assert_eq!(runs.restarts, restarts);
    }
    assert_eq!(runs.after(policy, id(0), &short, at(0)), None);
    let steady = runs.after(policy, id(0), &ran(ExitStatus::Code(1), 60_000), at(0)).unwrap();
    assert_eq!((steady.restarts, steady.in_a_row), (3, 1));
    assert_eq!(steady.begun(at(0)).after(policy, id(0), &ran(ExitStatus::Code(0), 5), at(0)), None);
}

#[test]
fn a_first_start_that_fails_is_a_mistake_and_a_later_one_bad_luck() {
    let first = Runs::first(Attempt::FIRST, at(0));
    assert_eq!(first.after(RestartPolicy::Always, id(0), &failed(), at(0)), None);
    let again =
        first.after(RestartPolicy::Always, id(0), &End::Lost(None, at(5)), at(0)).unwrap().begun(at(0));
    assert!(again.after(RestartPolicy::Always, id(0), &failed(), at(0)).is_some());
}

#[test]
fn an_end_is_counted_once() {
    let waiting = Runs::first(Attempt::FIRST, at(0))
        .after(RestartPolicy::Always, id(0), &ran(ExitStatus::Code(1), 5), at(0))
        .unwrap();
    assert_eq!(waiting.after(RestartPolicy::Always, id(0), &ran(ExitStatus::Code(1), 5), at(0)), None);
}

#[test]
fn the_file_reads_back_for_its_attempt_alone() {
    let root = tempfile::tempdir().unwrap();
    let paths = WorkloadPaths::at(root.path().join("w"));
    assert_eq!(Runs::read(&paths, Attempt::FIRST, at(7)), Runs::first(Attempt::FIRST, at(7)));
    let waiting = Runs::first(Attempt::FIRST, at(0))
        .after(RestartPolicy::Always, id(0), &ran(ExitStatus::Signal(9), 5), at(0))
        .unwrap();
    waiting.write(&paths).unwrap();
    assert_eq!(Runs::read(&paths, Attempt::FIRST, at(0)), waiting);
    assert_eq!(waiting.pause().unwrap().last.how, "signal 9");
    assert_eq!(Runs::read(&paths, Attempt::FIRST.next(), at(0)).restarts, 0);
}

#[test]
fn a_clock_that_jumps_neither_stretches_a_pause_nor_makes_it_negative() {
    let last = LastRun { exit: None, how: String::new(), started_at: None, finished_at: at(0) };
    let pause = Pause { until: at(1_000_000_000), last };
    assert_eq!(pause.left(at(0)), PAUSE_MAX);
    assert_eq!(pause.left(at(2_000_000_000)), Duration::ZERO);
}

/// Runs that end after 5 ms each, seen by a clock that shows these times at their beginnings and ends.
fn pauses_seen_by(clock: &[(u64, u64)]) -> Vec<u64> {
    let mut runs = Runs::first(Attempt::FIRST, at(0));
    let one = |runs: &mut Runs, (started, ended): (u64, u64)| {
        let end = End::Exited(ExitRecord::new(ExitStatus::Code(1), at(started), at(ended)));
        let next = runs.after(RestartPolicy::Always, id(0), &end, at(ended)).unwrap();
        let left = next.pause().unwrap().left(at(ended));
        *runs = next.begun(at(ended));
        left.as_millis() as u64
    };
    clock.iter().map(|times| one(&mut runs, *times)).collect()
}

#[test]
fn a_clock_that_jumps_back_during_a_run_makes_it_no_steady_one() {
    const DAY_MS: u64 = 86_400_000;
    let clock = [(DAY_MS, DAY_MS + 5), (DAY_MS + 100, 5), (200, 205), (600, 605)];
    assert_eq!(pauses_seen_by(&clock), [100, 200, 400, 800]);
}

#[test]
fn a_clock_that_jumps_ahead_during_a_run_costs_one_short_pause() {
    const DAY_MS: u64 = 86_400_000;
    let clock = [(0, 5), (100, 105), (300, DAY_MS), (DAY_MS, DAY_MS + 5)];
    assert_eq!(pauses_seen_by(&clock), [100, 200, 100, 200]);
}
